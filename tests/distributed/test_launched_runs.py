"""Whole runs in several processes: started by one command or by torchrun, ended, started again, moved to another."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from codistill import Config, UserError, train
from codistill.rundir import read_moves
from codistill.training import launch, resume
from codistill.training.launch import as_launched, meeting_place

SOAK = Path(__file__).parents[1] / "soak"
TWO = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted and killed as Linux does it")


@pytest.fixture
def environment(monkeypatch):
    for name in (*TWO, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return monkeypatch


def losses(run):
    return [json.loads(line)["train"]["loss_by_peer"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_process_is_replaced_and_the_run_equals_one_process_to_the_bit(environment, tmp_path):
    environment.setenv("FAULT", "kill:1:gather:7")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", str(SOAK / "rank.py"), str(tmp_path / "run"), "peer=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAULT kill:1:gather:7" in done.stdout
    # Without a fault, in one process.
    script = (
        f"import sys; sys.path.insert(0, {str(SOAK)!r}); from child import *; from pathlib import Path\n"
        f"begin(Path({str(tmp_path / 'alone')!r}), group='networks', peers=4)\n"
        f"print(numbers(Path({str(tmp_path / 'alone')!r})) == numbers(Path({str(tmp_path / 'run')!r})))"
    )
    environment.delenv("FAULT")
    alone = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert alone.stdout.strip() == "True", alone.stderr
    mesh = json.loads((tmp_path / "run" / "summary.json").read_text())["executor"]["mesh"]
    assert (mesh["data"], mesh["peer"], mesh["placed"]) == (1, 2, [[0, 2], [1, 3]])
    # Four networks, 32 images, 10 classes and 48 features of 4 bytes; each process sends the half that it has made.
    assert all(sent["outputs"] == 2 * 32 * (10 + 48) * 4 for sent in mesh["bytes_per_step"])


def test_one_command_starts_processes_that_sigterm_ends_and_one_process_goes_on(environment, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "codistill", "train", "--data", "digits", "--train-subset", "300", "--peers", "2"]
    command += ["--model", "resnet8_tiny", "--method", "dml", "--epochs", "8", "--batch-size", "50", "--device", "cpu"]
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen([*command, "--mesh", "data=2", "--out", str(out)], stdout=log, stderr=log)
    until = time.monotonic() + 200
    while not (out / "metrics.jsonl").exists():
        assert started.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.01)
    started.send_signal(signal.SIGTERM)
    assert started.wait(100) == 128 + signal.SIGTERM, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert said.count("codistill resume") == 1
    assert "Traceback" not in said
    with pytest.warns(
        UserWarning, match=r"goes on with executor loop, mesh None .before: executor distributed, mesh data=2"
    ):
        resume(out)
    assert [(move.before["mesh"], move.after["mesh"]) for move in read_moves(out)] == [("data=2,peer=1", None)]
    alone = Config(
        method="dml", model=("resnet8_tiny",), data="digits", train_subset=300, peers=2, epochs=8, batch_size=50,
        device="cpu", executor="loop", threads=1, out=tmp_path / "alone",
    )  # fmt: skip
    train(alone)
    assert losses(out)[0] == pytest.approx(losses(tmp_path / "alone")[0], rel=1e-3)
    assert len(losses(out)) == 8


def test_what_does_not_fit_the_processes_is_refused_before_they_meet(environment):
    assert as_launched(Config()) == Config()
    with pytest.raises(UserError, match="mesh peer=2 in a process that torchrun did not start"):
        train(Config(data="digits", mesh="peer=2"))
    with pytest.raises(UserError, match="executor 'distributed' in a process that torchrun did not start"):
        train(Config(data="digits", executor="distributed"))
    for name, value in TWO.items():
        environment.setenv(name, value)
    assert as_launched(Config(device="cpu")) == Config(device="cpu", executor="distributed", mesh="auto")
    with pytest.raises(UserError, match="executor 'fused' in one of 2 processes that torchrun has started"):
        as_launched(Config(executor="fused"))


def test_processes_meet_where_those_of_an_earlier_start_have_left_their_names():
    store, places = dist.HashStore(), {}
    for start in range(2):

        def come(rank, start=start):
            # The first one comes last: the others find the answers of the start before.
            time.sleep(0.2 if rank == 0 else 0)
            places[start, rank] = meeting_place(store, rank, 3, 20.0)

        threads = [threading.Thread(target=come, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({places[0, rank] for rank in range(3)}) == 1
    assert len({places[1, rank] for rank in range(3)}) == 1
    assert places[0, 0] != places[1, 0]


def test_processes_that_do_not_come_are_missed(monkeypatch):
    monkeypatch.setattr(launch, "POLL", 0.01)
    with pytest.raises(UserError, match="not all of 2 processes have come"):
        meeting_place(dist.HashStore(), 0, 2, 0.1)
    with pytest.raises(UserError, match="not all of 2 processes have come"):
        meeting_place(dist.HashStore(), 1, 2, 0.1)
