"""Many runs: finished ones are kept, interrupted ones go on, failed and killed ones do not stop the others."""

import dataclasses
import io
import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import pytest
from rich.console import Console

from codistill.config import write_config
from codistill.studies import local, run_all
from codistill.studies.run_list import PlannedRun
from codistill.training import Config, OptimConfig, train

BASE = Config(
    method="baseline",
    model="resnet8_tiny",
    peers=1,
    data="digits",
    train_subset=100,
    epochs=2,
    batch_size=50,
    device="cpu",
    threads=1,
    optim=OptimConfig(lr=0.05),
)

NETWORK = """
import os
import time
from pathlib import Path

from torch import nn

HERE = Path(__file__).parent


def wait_for(name):
    for _ in range(6000):
        if (HERE / name).is_file():
            return
        time.sleep(0.05)
    raise TimeoutError(name)


class Net(nn.Sequential):
    def __init__(self, num_classes):
        body = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        super().__init__(*body, nn.Linear(24, num_classes))


class Stops(Net):
    def forward(self, x):
        if (HERE / "run" / "metrics.jsonl").is_file() and not (HERE / "go").is_file():
            (HERE / "stopped").touch()
            wait_for("never")
        return super().forward(x)


def stops(num_classes, in_channels=3):
    "Stands still in the second epoch of the run next to this file, until there is a file go."
    return Stops(num_classes)


def killed(num_classes, in_channels=3):
    "The first time, ends its process as soon as the patient network is there."
    wait_for("begun")
    if not (HERE / "killed").is_file():
        (HERE / "killed").touch()
        os._exit(1)
    (HERE / "revived").touch()
    return Net(num_classes)


def patient(num_classes, in_channels=3):
    "Goes on when the other network is there again."
    with (HERE / "begun").open("a") as file:
        print("begun", file=file)
    wait_for("revived")
    return Net(num_classes)
"""

STUDY = """
import sys
from pathlib import Path

from rich.console import Console

from codistill.studies import run_all
from codistill.training import read_config

run_all([read_config(Path(sys.argv[1]))], 1, Console())
"""


class InThisProcess(ThreadPoolExecutor):
    """Stands for a pool of one process where a test is not about processes, which take seconds to start."""

    def __init__(self):
        super().__init__(1)


class Killing:
    """A pool whose process is killed in every run."""

    def submit(self, *_):
        future = Future()
        future.set_exception(BrokenProcessPool())
        return future

    def shutdown(self, **_):
        pass


def test_an_interruption_of_the_first_process_alone_ends_the_others(tmp_path, monkeypatch):
    def interrupted(running, timeout, **keywords):
        if keywords and (tmp_path / "long" / "metrics.jsonl").exists():
            raise KeyboardInterrupt
        return wait(running, timeout=min(timeout, 0.5), **keywords)

    monkeypatch.setattr(local, "wait", interrupted)
    monkeypatch.setattr(local, "GRACE", 0.5)
    # Other tests share processes that live longer.
    before = set(multiprocessing.active_children())
    long = dataclasses.replace(BASE, method="ind", peers=2, epochs=400, out=tmp_path / "long")
    with pytest.raises(KeyboardInterrupt):
        run_all([long], 1, Console(quiet=True))
    assert not (tmp_path / "long" / "summary.json").exists()
    assert set(multiprocessing.active_children()) <= before


class Stop:
    """Interrupts a run in its second epoch."""

    def on_step(self, session, step, steps):
        if session.epoch == 1:
            raise KeyboardInterrupt


def summary_of(run_dir):
    return json.loads((run_dir / "summary.json").read_text())


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


def test_a_study_keeps_resumes_reports_and_goes_on_though_a_process_is_killed(tmp_path, network):
    asked = [
        dataclasses.replace(BASE, model=f"{network}:killed", out=tmp_path / "dies"),
        dataclasses.replace(BASE, model=f"{network}:patient", out=tmp_path / "patient"),
        dataclasses.replace(BASE, out=tmp_path / "done"),
        dataclasses.replace(BASE, method="dml", peers=2, out=tmp_path / "interrupted"),
        dataclasses.replace(BASE, method="dml", peers=2, out=tmp_path / "wrong", method_options={"temperature": -1.0}),
        dataclasses.replace(BASE, method="ind", peers=2, out=tmp_path / "fresh"),
    ]
    train(asked[2])
    with pytest.raises(KeyboardInterrupt):
        train(asked[3], observers=[Stop()])
    written = (tmp_path / "done" / "summary.json").stat().st_mtime_ns
    first_line = (tmp_path / "interrupted" / "metrics.jsonl").read_text().splitlines()[0]
    screen = io.StringIO()
    results = run_all(asked, 2, Console(file=screen, width=200))
    assert [r.run_dir for r in results] == [c.out for c in asked]
    assert [r.kept for r in results] == [False, False, True, False, False, False]
    assert [r.error is None for r in results] == [True, True, True, True, False, True]
    # The killed process took no other with it: the network trained next to it was built once.
    assert (tmp_path / "killed").is_file()
    assert (tmp_path / "begun").read_text() == "begun\n"
    assert (tmp_path / "done" / "summary.json").stat().st_mtime_ns == written
    lines = (tmp_path / "interrupted" / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == first_line
    assert len(lines) == 2
    assert "temperature -1.0: it must be greater than 0" in results[4].error
    assert "temperature -1.0" in (tmp_path / "wrong" / "log.txt").read_text()
    assert summary_of(tmp_path / "fresh")["method"] == "ind"
    assert "[6/6]" in screen.getvalue()
    assert "finished by an earlier call" in screen.getvalue()


def test_what_the_processes_warn_of_is_told_by_the_first_one(tmp_path, capfd):
    optim = OptimConfig(lr=0.05, schedule="cosine", gamma=0.5)
    asked = [dataclasses.replace(BASE, epochs=1, optim=optim, seed=seed, out=tmp_path / str(seed)) for seed in (0, 1)]
    with pytest.warns(UserWarning, match=r"^optim\.gamma 0\.5 has no effect") as caught:
        run_all(asked, 1, Console(file=io.StringIO()))
    assert [str(one.message).partition(":")[0] for one in caught] == ["optim.gamma 0.5 has no effect"]
    assert "UserWarning" not in capfd.readouterr().err


def test_a_run_whose_process_is_killed_again_and_again_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_new_pool", Killing)
    (result,) = run_all([dataclasses.replace(BASE, out=tmp_path / "run")], 1, Console(file=io.StringIO()))
    assert result.error == "its process was killed; the memory may be too small"
    assert (tmp_path / "run" / "log.txt").read_text() == result.error


def test_teachers_run_before_those_that_learn_from_them_and_a_failed_one_stops_only_these(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_new_pool", InThisProcess)
    wrong = dataclasses.replace(BASE, method_options={"temperature": 2.0}, out=tmp_path / "wrong")
    teacher = dataclasses.replace(BASE, model="wrn10_1", out=tmp_path / "teacher")

    def pupil(name, of):
        return dataclasses.replace(BASE, method="kd", teachers=(str(of.out),), out=tmp_path / name)

    taught, stopped = pupil("taught", teacher), pupil("stopped", wrong)
    # Each pupil is asked for before its teacher, and one learns from a pupil that is never begun.
    asked = [
        PlannedRun(pupil("last", stopped), (1,)),
        PlannedRun(stopped, (2,)),
        PlannedRun(wrong),
        PlannedRun(taught, (4,)),
        PlannedRun(teacher),
    ]
    last, never_begun, failed, learned, done = run_all(asked, 1, Console(file=io.StringIO()))
    assert "unknown option of baseline 'temperature'" in failed.error
    assert never_begun.error == f"not started: its teacher {tmp_path / 'wrong'} failed"
    assert last.error == f"not started: its teacher {tmp_path / 'stopped'} failed"
    assert (tmp_path / "stopped" / "log.txt").read_text() == never_begun.error
    assert not (tmp_path / "stopped" / "config.yaml").exists()
    assert (learned.error, done.error) == (None, None)
    assert summary_of(tmp_path / "taught")["method"] == "kd"


def test_a_study_killed_in_the_middle_of_a_run_goes_on_to_the_same_numbers(tmp_path, network, monkeypatch):
    config = dataclasses.replace(
        BASE, method="dml", peers=2, model=f"{network}:stops", executor="loop", out=tmp_path / "run"
    )
    train(dataclasses.replace(config, out=tmp_path / "whole"))
    write_config(config, tmp_path / "config.yaml")
    command = [sys.executable, "-c", STUDY, str(tmp_path / "config.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as killed:
        while not (tmp_path / "stopped").is_file():
            assert killed.poll() is None, killed.communicate()[0]
            time.sleep(0.05)
        killed.kill()
        # The screen is closed by the last process that writes to it: no worker lives on.
        killed.communicate(timeout=60)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "run" / "summary.json").exists()
    (tmp_path / "go").touch()
    monkeypatch.setattr(local, "_new_pool", InThisProcess)
    (result,) = run_all([config], 1, Console(file=io.StringIO()))
    assert (result.error, result.kept) == (None, False)
    whole, continued = (summary_of(tmp_path / name) for name in ("whole", "run"))
    assert continued["last"] == whole["last"]
    assert continued["selected"] == whole["selected"]
    losses = [
        [json.loads(line)["train"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "run")
    ]
    assert losses[0] == losses[1]
