"""Many runs at once: finished ones are kept, interrupted ones go on, failed and killed ones do not stop the others."""

import dataclasses
import io
import json
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from rich.console import Console

from codistill.cli import main
from codistill.studies import run_cells, runner
from codistill.studies.demo import Demo, cells
from codistill.studies.plan import Cell
from codistill.training import Config, OptimConfig, Silent, train
from codistill.training.configfile import write_config

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
    "Stands still in the second epoch of the run beside this file, until there is a file go."
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

from codistill.studies import run_cells
from codistill.training import read_config

run_cells([read_config(Path(sys.argv[1]))], 1, Console())
"""


class InThisProcess(ThreadPoolExecutor):
    """Stands for a pool of one process where a test is not about processes, which take seconds to start."""

    def __init__(self):
        super().__init__(1)


class Killing:
    """A pool whose process is killed in every cell."""

    def submit(self, *_):
        future = Future()
        future.set_exception(BrokenProcessPool())
        return future

    def shutdown(self, **_):
        pass


class Stop(Silent):
    """Interrupts a run in its second epoch."""

    def on_step(self, session, step, steps):
        if session.epoch == 1:
            raise KeyboardInterrupt


def summary_of(run_dir):
    return json.loads((run_dir / "summary.json").read_text())


def study(*arguments):
    """The exit code of `codistill study`."""
    try:
        main(["study", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


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
    results = run_cells(asked, 2, Console(file=screen, width=200))
    assert [r.run_dir for r in results] == [c.out for c in asked]
    assert [r.kept for r in results] == [False, False, True, False, False, False]
    assert [r.error is None for r in results] == [True, True, True, True, False, True]
    # The killed process took no other with it: the network beside it was built once.
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
    assert "kept from an earlier call" in screen.getvalue()


def test_a_cell_whose_process_is_killed_again_and_again_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_new_pool", Killing)
    (result,) = run_cells([dataclasses.replace(BASE, out=tmp_path / "run")], 1, Console(file=io.StringIO()))
    assert result.error == "its process was killed; the memory may be too small"
    assert (tmp_path / "run" / "log.txt").read_text() == result.error


def test_teachers_run_before_those_that_learn_from_them_and_a_failed_one_stops_only_these(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_new_pool", InThisProcess)
    wrong = dataclasses.replace(BASE, method_options={"temperature": 2.0}, out=tmp_path / "wrong")
    teacher = dataclasses.replace(BASE, model="wrn10_1", out=tmp_path / "teacher")

    def pupil(name, of):
        return dataclasses.replace(BASE, method="kd", teachers=(str(of.out),), out=tmp_path / name)

    taught, stopped = pupil("taught", teacher), pupil("stopped", wrong)
    # Each pupil is asked for before its teacher, and one learns from a pupil that is never begun.
    asked = [Cell(pupil("last", stopped), (1,)), Cell(stopped, (2,)), Cell(wrong), Cell(taught, (4,)), Cell(teacher)]
    last, never_begun, failed, learned, done = run_cells(asked, 1, Console(file=io.StringIO()))
    assert "unknown option of baseline 'temperature'" in failed.error
    assert never_begun.error == f"not begun: its teacher {tmp_path / 'wrong'} failed"
    assert last.error == f"not begun: its teacher {tmp_path / 'stopped'} failed"
    assert (tmp_path / "stopped" / "log.txt").read_text() == never_begun.error
    assert not (tmp_path / "stopped" / "config.yaml").exists()
    assert (learned.error, done.error) == (None, None)
    assert summary_of(tmp_path / "taught")["method"] == "kd"


def test_a_study_killed_in_the_middle_of_a_cell_goes_on_to_the_same_numbers(tmp_path, network, monkeypatch):
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
    monkeypatch.setattr(runner, "_new_pool", InThisProcess)
    (result,) = run_cells([config], 1, Console(file=io.StringIO()))
    assert (result.error, result.kept) == (None, False)
    whole, continued = (summary_of(tmp_path / name) for name in ("whole", "run"))
    assert continued["last"] == whole["last"]
    assert continued["selected"] == whole["selected"]
    losses = [
        [json.loads(line)["train"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "run")
    ]
    assert losses[0] == losses[1]


def test_the_command_runs_a_study_keeps_its_runs_and_names_the_log_of_a_failed_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_new_pool", InThisProcess)
    options = ["kdcl/table7", "--profile", "smoke", "--seeds", "1", "--jobs", "1", "--out", tmp_path]
    assert study(*options, "--methods", "2_distill_1", "--dry-run") == 0
    assert "3 of 3 runs to do; nothing was run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []

    # A device without values: every run fails on it.
    assert study(*options, "--methods", "dml", "--devices", "meta") == 1
    screen = capsys.readouterr().out
    runs = tmp_path / "smoke" / "runs"
    logs = sorted(runs.glob("*/log.txt"))
    assert len(logs) == 3
    assert all(f"failed: {log}" in screen for log in logs)
    assert "no report of kdcl/table7: none of its runs has an epoch" in screen

    assert study(*options, "--methods", "2_distill_1") == 0
    screen = capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")}
    assert len(written) == 3
    assert len(list(runs.glob("*/log.txt"))) == 1
    report = tmp_path / "smoke" / "kdcl-table7"
    assert f"report: {report / 'report.html'}" in screen
    assert "| 2_distill_1 | resnet32 |" in (report / "table.md").read_text()

    # Three of the four runs are there; the other fails, and is told.
    assert study(*options, "--methods", "2_distill_1", "one", "--devices", "meta") == 1
    screen = capsys.readouterr().out
    assert screen.count("kept from an earlier call") == 3
    (failed,) = [line.removeprefix("failed: ") for line in screen.splitlines() if line.startswith("failed: ")]
    assert "-one-branches-" in failed
    assert "after" in (runs / failed.rpartition("runs/")[2]).read_text()
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")} == written
    assert "2_distill_1" in (report / "table.md").read_text()


def test_a_reading_has_its_own_runs_and_report_and_says_where_it_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_new_pool", InThisProcess)
    options = ["--profile", "smoke", "--seeds", "1", "--jobs", "1", "--out", tmp_path]
    table4 = ["okddip/table4", "--only", "vgg16", "--methods", "okddip_branch", *options]
    assert study(*table4, "--reading", "released") == 0
    screen = capsys.readouterr().out
    report = tmp_path / "smoke" / "okddip-table4-released"
    assert "; reading released)" in screen
    assert f"report: {report / 'report.html'}" in screen
    assert "| reading | released |" in (report / "table.md").read_text()
    assert study(*table4, "--dry-run") == 0
    assert "2 of 2 runs to do" in capsys.readouterr().out
    assert study(*table4, "--reading", "released", "--dry-run") == 0
    assert "0 of 2 runs to do" in capsys.readouterr().out

    both = ["okddip/table5", "kdcl/table5", *options, "--dry-run"]
    assert study(*both, "--reading", "released", "--unclear-epochs", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "--reading released is for studies of okddip and changes nothing in kdcl/table5",
        "--unclear-epochs 3 is for studies of kdcl and changes nothing in okddip/table5",
    ]
    assert study(*both) == 0
    assert "changes nothing" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no study: name one or several"),
        (["okddip/table6"], "unknown study 'okddip/table6': did you mean"),
        (["okddip/table1", "--only", "resnet33"], "unknown row of okddip/table1 'resnet33': did you mean 'resnet32'"),
        (["okddip/table1", "--methods", "dmll"], "unknown method of okddip/table1 'dmll': did you mean 'dml'"),
        (["okddip/table1", "--jobs", "0"], "jobs 0: at least 1"),
        (["okddip/table1", "--seeds", "0"], "seeds 0: a study needs at least 1"),
        (["kdcl/table5", "--unclear-epochs", "0"], "unclear_epochs 0: it must be 1 or more"),
        (["okddip/table1", "--devices", "cuda:99"], "device 'cuda:99' is not there"),
        (["list", "--gpu", "a1000"], "unknown GPU 'a1000': did you mean 'a100'"),
    ],
)
def test_a_users_mistake_is_one_sentence_before_anything_runs(tmp_path, capsys, arguments, sentence):
    assert study(*arguments, "--profile", "smoke", "--out", tmp_path / "studies") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"codistill: error: {sentence}")
    assert error.count("\n") == 1
    assert not (tmp_path / "studies").exists()


def test_a_file_is_no_folder_for_studies(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert study("okddip/table1", "--profile", "smoke", "--out", tmp_path / "file") == 2
    assert f"out {tmp_path / 'file'} is a file: give the path of a folder." in capsys.readouterr().err


def test_the_demo_compares_seven_variants_under_one_protocol(tmp_path):
    runs = cells(Demo(out=tmp_path))
    assert len(runs) == 21
    assert len({c.out for c in runs}) == 21
    shared = {(c.model, c.data, c.epochs, c.batch_size, c.validation, c.optim, c.train_subset) for c in runs}
    assert len(shared) == 1
    assert {c.seed for c in runs} == {0, 1, 2}
    first = [(c.method, c.group, c.icl, c.peers) for c in runs[:7]]
    assert first == [
        ("baseline", "networks", False, 1),
        ("ind", "networks", False, 4),
        ("dml", "networks", False, 4),
        ("okddip", "networks", False, 4),
        ("okddip", "branches", False, 4),
        ("kdcl_minlogit", "networks", False, 4),
        ("kdcl_minlogit", "networks", True, 4),
    ]
