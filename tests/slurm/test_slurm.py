"""Runs as jobs of a real Slurm, of one node on this machine; tests/unit/test_studies_slurm.py needs no Slurm."""

import dataclasses
import io
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster import cluster, missing
from rich.console import Console

from codistill.cli import main
from codistill.rundir import lock_run
from codistill.studies import local, run_all
from codistill.studies.run_list import PlannedRun
from codistill.studies.slurm import Slurm, launcher
from codistill.training import Config, OptimConfig

if not os.environ.get("CODISTILL_SLURM"):
    pytest.skip("it takes three minutes, and needs slurm-wlm and root: set CODISTILL_SLURM=1", allow_module_level=True)
if why := missing():
    pytest.skip(f"no Slurm here: {why}", allow_module_level=True)

NETWORK = """
import time
from pathlib import Path

from torch import nn


class Slow(nn.Sequential):
    def forward(self, x):
        if self.training and (Path(__file__).parent / "slow").is_file():
            time.sleep(3)
        return super().forward(x)


def slow(num_classes, in_channels=3):
    "Slow while there is a file of that name."
    return Slow(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, num_classes))
"""

BASE = Config(
    method="baseline", model="resnet8_tiny", peers=1, data="digits", train_subset=60, epochs=1, batch_size=30,
    device="cpu", threads=1, optim=OptimConfig(lr=0.05),
)  # fmt: skip


class InThisProcess(ThreadPoolExecutor):
    """Stands for a pool of one process, which takes seconds to start."""

    def __init__(self):
        super().__init__(1)


@pytest.fixture(scope="module")
def slurm():
    with cluster() as env:
        yield env


@pytest.fixture
def here(slurm, tmp_path, monkeypatch):
    """A folder from which commands reach the cluster; questions to Slurm are frequent there."""
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    monkeypatch.setattr(local, "_new_pool", InThisProcess)
    for name, seconds in (("POLL", 0.2), ("ASK", 0.5), ("LATE", 3.0)):
        monkeypatch.setattr(launcher, name, seconds)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments):
    """The exit code of `codistill compare`."""
    try:
        main(["compare", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def results_of(folder):
    found = {path.parent.name: json.loads(path.read_text()) for path in Path(folder).glob("runs/*/summary.json")}
    return {name: (summary["last"], summary["selected"]) for name, summary in found.items()}


def test_a_comparison_on_slurm_survives_ctrl_c_and_scancel_and_gives_the_numbers_of_local_processes(
    here, monkeypatch, capsys
):
    (here / "net.py").write_text(NETWORK)
    command = [
        "--data", "digits", "--train-subset", "60", "--validation", "0.2", "--model", "net.py:slow", "--epochs", "12",
        "--batch-size", "30", "--device", "cpu", "--threads", "1", "--executor", "loop", "--seeds", "2",
        "--methods", "dml,peers=2",
    ]  # fmt: skip
    assert compare(*command, "--jobs", "1", "--out", "local") == 0
    expected = results_of("local")
    assert len(expected) == 4

    command += ["--launcher", "slurm", "--slurm", "time=00:20:00,cpus-per-task=1", "--jobs", "2", "--out", "out"]
    (here / "slow").touch()
    first = here / "out" / "runs" / "alone-seed0"

    def interrupted(seconds):
        time.sleep(seconds)
        if (first / "metrics.jsonl").is_file():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launcher, "time", SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
        assert compare(*command) == 130
    (record,) = (here / "out" / "slurm").glob("*/job.json")
    job = json.loads(record.read_text())["job"]
    assert f"Slurm's jobs go on: 'squeue --jobs={job}' shows them, 'scancel {job}' ends them" in capsys.readouterr().err

    def cancelling(seconds):
        if (here / "slow").is_file():
            subprocess.run(["scancel", f"{job}_0"], check=True)
            (here / "slow").unlink()
        time.sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(launcher, "time", SimpleNamespace(sleep=cancelling, monotonic=time.monotonic))
        assert compare(*command) == 1
    screen = capsys.readouterr().out
    assert f"in the queue already: 4 runs, as job {job}\n" in screen
    assert "submitted" not in screen
    assert f"failed: out/runs/alone-seed0/log.txt: job {job}_0 ended as CANCELLED" in screen
    log = (first / "log.txt").read_text()
    assert f"job {job}_0 on " in log
    assert "interrupted by SIGTERM; what was saved is kept" in log
    assert not (first / "summary.json").exists()
    saved = len((first / "metrics.jsonl").read_text().splitlines())
    assert saved < 12

    assert compare(*command) == 0
    screen = capsys.readouterr().out
    assert "submitted 1 run as job " in screen
    assert screen.count("finished by an earlier call") == 3
    assert results_of("out") == expected
    assert len((first / "metrics.jsonl").read_text().splitlines()) == 12


def test_pupils_wait_for_teachers_and_a_run_in_use_is_left_alone(here):
    wrong = dataclasses.replace(BASE, method_options={"temperature": 2.0}, out=Path("wrong"))
    teacher = dataclasses.replace(BASE, out=Path("teacher"))
    used = dataclasses.replace(BASE, out=Path("used"))
    (here / "used").mkdir()

    def pupil(name, of):
        return dataclasses.replace(BASE, method="kd", teachers=(str(of.out),), out=Path(name))

    asked = [
        PlannedRun(pupil("taught", teacher), (1,)),
        PlannedRun(teacher),
        PlannedRun(pupil("stopped", wrong), (3,)),
        PlannedRun(wrong),
        PlannedRun(used),
    ]
    with lock_run(here / "used"):
        screen = io.StringIO()
        ended = run_all(asked, None, Console(file=screen, width=200), slurm=Slurm(here / "slurm"))
    taught, learned, stopped, failed, elsewhere = ended
    assert (taught.error, learned.error) == (None, None)
    assert json.loads((here / "taught" / "summary.json").read_text())["method"] == "kd"
    assert stopped.error == f"not started: its teacher {here / 'wrong'} is not finished"
    assert stopped.error in (here / "stopped" / "log.txt").read_text()
    assert "unknown option of baseline 'temperature'" in failed.error
    assert failed.error in (here / "wrong" / "log.txt").read_text()
    assert elsewhere.elsewhere
    assert f"in progress elsewhere: {here / 'used'} is in use" in elsewhere.error
    assert [path.name for path in (here / "used").iterdir()] == [".lock"]


def test_a_refusal_of_sbatch_is_one_sentence_and_leaves_nothing(here, capsys):
    command = [
        "--data", "digits", "--train-subset", "60", "--model", "resnet8_tiny", "--epochs", "1", "--seeds", "1",
        "--methods", "dml,peers=2", "--batch-size", "30", "--device", "cpu", "--out", "out", "--launcher", "slurm",
    ]  # fmt: skip
    assert compare(*command, "--slurm", "partition=nope") == 2
    error = capsys.readouterr().err
    assert "sbatch refuses the jobs (invalid partition specified: nope; Batch job submission failed: " in error
    assert not list(here.glob("out/slurm"))
