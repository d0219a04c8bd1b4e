"""`compare` and `study` in folders of something else, or in which others are at work: nothing of theirs changes."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from codistill.compare import command
from codistill.config import Config, write_config
from codistill.rundir import lock_run
from codistill.studies import local
from refusals import refused, run

SHORT = [
    "--data", "digits", "--train-subset", "60", "--validation", "0.2", "--model", "resnet8_tiny", "--peers", "2",
    "--batch-size", "30", "--epochs", "1", "--device", "cpu", "--jobs", "1", "--executor", "loop", "--seeds", "1",
    "--methods", "dml",
]  # fmt: skip
STUDY = ["kdcl/table7", "--profile", "smoke", "--seeds", "1", "--jobs", "1", "--methods", "2_distill_1"]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun_run(folder, **settings):
    """What the program takes for a run with a checkpoint."""
    (folder / "checkpoints" / "epoch_0001").mkdir(parents=True)
    (folder / "checkpoints" / "epoch_0001" / "state.pt").write_bytes(b"")
    write_config(Config(out=folder, **settings), folder / "config.yaml")


def something(out):
    out.mkdir()
    (out / "report.html").write_text("theirs")


def of_another_program(out):
    out.mkdir()
    (out / "comparison.json").write_text('{"version": 1, "kind": "theirs"}')


def no_run(out):
    (out / "runs" / "alone-seed0").mkdir(parents=True)
    (out / "runs" / "alone-seed0" / "log.txt").write_text("theirs")
    (out / "runs" / "alone-seed0" / "notes.txt").write_text("theirs")


def other_run(out):
    begun_run(out / "runs" / "alone-seed0", method="okddip", model=("resnet8_tiny",))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (something, "is not empty and holds no comparison (there is report.html): give another --out"),
        (of_another_program, "comparison.json is of another program: give another --out"),
        (no_run, "alone-seed0 is not empty and holds no run (there is notes.txt)"),
        (other_run, "alone-seed0 holds a run of other settings, which would be replaced: move it away"),
    ],
)
def test_compare_leaves_what_is_not_its_own(tmp_path, capsys, make, sentence):
    out = tmp_path / "out"
    make(out)
    before = files(tmp_path)
    assert sentence in refused(capsys, "compare", *SHORT, "--out", out)
    assert files(tmp_path) == before


def test_a_comparison_takes_its_folder_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise SystemExit("stands for a signal")

    monkeypatch.setattr(command, "run_all", stopped)
    with pytest.raises(SystemExit, match="stands for a signal"):
        command.run_comparison(*_request(tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(record["settings"]) == ["alone", "dml", "search"]
    before = files(tmp_path)
    sentence = refused(capsys, "compare", *SHORT, "--optim.lr", "0.03", "--out", tmp_path / "out")
    assert "holds another comparison (alone: " in sentence
    assert "optim.lr" in sentence
    assert files(tmp_path) == before


def _request(out):
    from codistill import commands
    from codistill.terminal import Console

    return commands.parse(["compare", *SHORT, "--out", str(out)]), Console()


def test_compare_leaves_a_run_that_another_process_trains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(local, "_new_pool", lambda: ThreadPoolExecutor(1))
    theirs = tmp_path / "out" / "runs" / "alone-seed0"
    theirs.mkdir(parents=True)
    (theirs / "config.yaml").write_text(yaml.safe_dump({"version": 1, "method": "x", "model": [], "peers": 1}))
    with lock_run(theirs):
        before = files(theirs)
        assert run("compare", *SHORT, "--out", tmp_path / "out") == 1
        assert files(theirs) == before
    assert "alone-seed0 is in use: another process trains into it" in capsys.readouterr().out.replace("\n", " ")
    assert (tmp_path / "out" / "runs" / "dml-seed0" / "summary.json").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="a place in which nobody can make a folder")
@pytest.mark.parametrize("arguments", [("compare", *SHORT), ("study", *STUDY)])
def test_a_place_that_cannot_be_written_is_refused_at_once(capsys, arguments):
    assert "cannot be written" in refused(capsys, *arguments, "--out", "/proc/self/none")


def study_runs(capsys, out):
    assert run("study", *STUDY, "--out", out, "--dry-run") == 0
    return [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines() if line.startswith("to run")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smoke/theirs.txt", "smoke is not empty and holds no study (there is theirs.txt): give another --out"),
        ("smoke/kdcl-table7", "kdcl-table7 is a file, and a study's report goes there: give another --out"),
        ("smoke/kdcl-table7/report.html", "kdcl-table7 is not empty and holds no study (there is report.html)"),
        ("RUN/theirs.txt", "is not empty and holds no run (there is theirs.txt)"),
    ],
)
def test_a_study_leaves_what_is_not_its_own(tmp_path, capsys, name, sentence):
    first = study_runs(capsys, tmp_path)[0]
    path = tmp_path / name.replace("RUN", first)
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    before = files(tmp_path)
    assert sentence in refused(capsys, "study", *STUDY, "--out", tmp_path)
    assert files(tmp_path) == before


def test_a_study_leaves_a_run_of_other_settings_in_its_place(tmp_path, capsys):
    from pathlib import Path

    first = Path(study_runs(capsys, tmp_path)[0])
    begun_run(first, method="okddip", model=("resnet8_tiny",))
    before = files(tmp_path)
    assert "holds a run of other settings, which would be replaced" in refused(
        capsys, "study", *STUDY, "--out", tmp_path
    )
    assert files(tmp_path) == before
