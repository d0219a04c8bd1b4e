"""`codistill study`: what it runs, keeps, reports and refuses."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from codistill.cli import main
from codistill.studies import local, one_run


class InThisProcess(ThreadPoolExecutor):
    """Stands for a pool of one process where a test is not about processes, which take seconds to start."""

    def __init__(self):
        super().__init__(1)


def study(*arguments):
    """The exit code of `codistill study`."""
    try:
        main(["study", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_the_command_runs_a_study_keeps_its_runs_and_names_the_log_of_a_failed_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "_new_pool", InThisProcess)
    options = ["kdcl/table7", "--profile", "smoke", "--seeds", "1", "--jobs", "1", "--out", tmp_path]
    assert study(*options, "--methods", "2_distill_1", "--dry-run") == 0
    assert "3 of 3 runs to do; nothing was run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []

    def fails(*_, **__):
        raise RuntimeError("the device is lost")

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "train", fails)
        assert study(*options, "--methods", "dml") == 1
    screen = capsys.readouterr().out
    runs = tmp_path / "smoke" / "runs"
    logs = sorted(runs.glob("*/log.txt"))
    assert len(logs) == 3
    assert all(f"failed: {log}" in screen for log in logs)
    assert "no report of kdcl/table7: none of its runs has finished an epoch" in screen

    assert study(*options, "--methods", "2_distill_1") == 0
    screen = capsys.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")}
    assert len(written) == 3
    assert len(list(runs.glob("*/log.txt"))) == 1
    report = tmp_path / "smoke" / "kdcl-table7"
    assert f"report: {report / 'report.html'}" in screen
    assert "| 2_distill_1 | resnet32 |" in (report / "table.md").read_text()

    # Three of the four runs are there; the other fails, and is reported.
    with monkeypatch.context() as patch:
        patch.setattr(one_run, "train", fails)
        assert study(*options, "--methods", "2_distill_1", "one") == 1
    screen = capsys.readouterr().out
    assert screen.count("finished by an earlier call") == 3
    (failed,) = [line.removeprefix("failed: ") for line in screen.splitlines() if line.startswith("failed: ")]
    assert "-one-branches-" in failed
    assert "after" in (runs / failed.rpartition("runs/")[2]).read_text()
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")} == written
    assert "2_distill_1" in (report / "table.md").read_text()


def test_a_reading_has_its_own_runs_and_report_and_says_where_it_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "_new_pool", InThisProcess)
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
        "--reading released is only for studies of okddip and changes nothing in kdcl/table5",
        "--unclear-epochs 3 is only for studies of kdcl and changes nothing in okddip/table5",
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
        (["okddip/table1", "--jobs", "0"], "jobs 0: it must be at least 1"),
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


def test_the_gpu_profile_is_refused_without_a_gpu_but_lists_its_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["okddip/table2", "--only", "resnet32", "--methods", "dml", "--profile", "gpu", "--out", tmp_path / "out"]
    assert study(*command) == 2
    error = capsys.readouterr().err
    assert error.startswith("codistill: error: profile 'gpu' on a machine without a CUDA device would take weeks: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert study(*command, "--dry-run") == 0
    assert "runs to do; nothing was run" in capsys.readouterr().out


def test_the_profile_for_a_gpu_is_refused_without_one_but_can_be_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["okddip/table2", "--profile", "gpu", "--only", "resnet32", "--out", tmp_path]
    assert study(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("codistill: error: profile 'gpu' on a machine without a CUDA device")
    assert error.count("\n") == 1
    assert study(*arguments, "--dry-run") == 0
    assert "24 of 24 runs to do" in capsys.readouterr().out
