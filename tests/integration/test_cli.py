"""The command line as a user types it: exit codes, one sentence for a mistake, files left behind."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from codistill import models
from codistill.cli import main

QUICK = ["--model", "resnet8_tiny", "--peers", "2", "--batch-size", "64", "--epochs", "1", "--device", "cpu"]


def run(*arguments):
    """The exit code of a command."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refused(capsys, *arguments):
    """The one sentence with which a command is refused."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("codistill: error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    assert run("train", "--method", "dml", *QUICK, "--out", out, "--set", "optim.lr=0.05", "icl=true") == 0
    return out


def test_train_writes_a_run_with_its_report(trained):
    assert {"config.yaml", "metrics.jsonl", "summary.json", "report.html"} <= {p.name for p in trained.iterdir()}
    text = (trained / "config.yaml").read_text()
    assert "lr: 0.05" in text
    assert "icl: true" in text


def test_train_repeats_a_run_from_its_configuration(trained, tmp_path):
    assert run("train", "--config", trained / "config.yaml", "--out", tmp_path / "again") == 0
    first, again = (json.loads((d / "summary.json").read_text()) for d in (trained, tmp_path / "again"))
    assert first["last"] == again["last"]
    assert first["config_sha256"] == again["config_sha256"]


def test_options_beside_a_configuration_win(trained, tmp_path):
    assert run("train", "--config", trained / "config.yaml", "--seed", "3", "--out", tmp_path / "other") == 0
    assert json.loads((tmp_path / "other" / "summary.json").read_text())["seed"] == 3


def test_an_automatic_label_follows_the_options_beside_a_configuration(trained, tmp_path):
    assert run("train", "--config", trained / "config.yaml", "--method", "ind", "--out", tmp_path / "other") == 0
    assert json.loads((trained / "summary.json").read_text())["label"] == "dml, ICL"
    assert json.loads((tmp_path / "other" / "summary.json").read_text())["label"] == "ind, ICL"


def test_a_reader_that_has_seen_enough_ends_the_program_quietly():
    command = f"{sys.executable} -m codistill list data --json"
    for listing in (command, command.removesuffix(" --json")):
        piped = subprocess.run(["bash", "-c", f"{listing} | true"], capture_output=True, text=True, check=False)
        assert piped.stderr == ""


def test_advice_after_an_interruption_fits_the_command(monkeypatch, capsys):
    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setattr("codistill.cli._run", interrupted)
    for arguments, says in (
        (["train"], "interrupted; 'codistill resume RUN' continues from the last whole epoch\n"),
        (["study", "okddip/table2"], "interrupted; the same command continues, and keeps the runs that are done\n"),
        (["list", "data"], "interrupted\n"),
    ):
        assert run(*arguments) == 130
        assert capsys.readouterr().err == says


def test_evaluate_prints_the_numbers_of_the_summary(trained, capsys):
    assert run("evaluate", trained, "--json") == 0
    summary = json.loads((trained / "summary.json").read_text())
    assert json.loads(capsys.readouterr().out) == summary["last"]["test"]
    assert run("evaluate", trained, "--split", "validation") == 0
    assert "student 1" in capsys.readouterr().out


def test_export_gives_the_plain_network(trained, tmp_path, capsys):
    assert run("export", trained, "--format", "safetensors", "--peer", "1", "--out", tmp_path) == 0
    network = models.build("resnet8_tiny", 10, 1)
    network.load_state_dict(load_file(tmp_path / "student.safetensors"))
    facts = json.loads((tmp_path / "student.json").read_text())
    assert facts["model"] == "resnet8_tiny"
    assert facts["test"] == json.loads((trained / "summary.json").read_text())["last"]["test"]["peers"][1]
    assert "load_state_dict" in (tmp_path / "README.md").read_text()


def test_report_puts_runs_side_by_side(trained, tmp_path, monkeypatch):
    assert run("report", trained, "--out", tmp_path / "r.html") == 0
    monkeypatch.chdir(tmp_path)
    assert run("report", trained, trained) == 0
    # The first run keeps its own report.
    assert (tmp_path / "report.html").is_file()
    assert "dml" in (tmp_path / "r.html").read_text()


def test_resume_goes_on_and_refuses_what_is_no_run(trained, tmp_path, capsys):
    assert run("resume", trained) == 0
    assert "no configuration at" in refused(capsys, "resume", tmp_path)


@pytest.mark.parametrize("what", ["methods", "models", "data"])
def test_lists_are_json_with_names(what, capsys):
    assert run("list", what, "--json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert {"methods": "okddip", "models": "resnet32", "data": "glyphs"}[what] in names
    assert run("list", what) == 0


def test_networks_are_listed_in_full_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run("list", "models") == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("mobilenet_v2_tiny_x0.5"))
    assert row.split() == ["mobilenet_v2_tiny_x0.5", "166,820", "3.7", "M", "1,280", "32", "features.3"]
    assert not any("…" in line for line in lines)


def test_help_gives_defaults(capsys):
    assert run("train", "--help") == 0
    out = capsys.readouterr().out
    assert "--batch-size" in out
    assert "(default: 128)" in out
    assert "--optim.lr" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "okdip"], "unknown method 'okdip': did you mean 'okddip'"),
        (["--model", "resnet33"], "unknown model 'resnet33': did you mean"),
        (["--data", "fashion"], "unknown data set 'fashion': did you mean 'fashion_mnist'"),
        (["--set", "optim.lrr=1"], "did you mean 'optim.lr'"),
        (["--set", "method_options.temprature=1"], "did you mean 'temperature'"),
        (["--set", "method_options.temperature=0"], "temperature 0.0: it must be greater than 0"),
        (["--set", "method_options.temperature=warm"], "temperature='warm': it takes a value of type float"),
        (["--set", "method_options.include_self=maybe"], "include_self='maybe': it takes a value of type bool"),
        (["--optim.lr", "inf"], "optim.lr inf: it must be a finite number"),
        (["--data-memory", "nan"], "data_memory nan"),
        (["--threads", "100000"], "threads 100000"),
        (["--out", "/proc/nowhere/run"], "out /proc/nowhere/run cannot be written"),
        (["--data", "own"], "data 'own' stands for data that were given from Python"),
        (["--method", "dml", "--peers", "1"], "needs at least 2"),
        (["--batch-size", "5000"], "batch_size 5000 with"),
        (["--batch-size", "0"], "batch_size 0"),
        (["--epochs", "-3"], "epochs -3"),
        (["--optim.lr", "-0.1"], "optim.lr -0.1"),
        (["--train-subset", "100000"], "100000"),
        (["--device", "cuda:9"], "device 'cuda:9' is not there"),
        (["--group", "branches", "--split", "layer9"], "unknown split 'layer9'"),
        (["--config", "nowhere.yaml"], "no configuration at nowhere.yaml"),
        (["--data", "image_folder"], "give the folder of your images with --data-dir"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(arguments, says, capsys, tmp_path):
    error = refused(capsys, "train", "--model", "resnet8_tiny", "--out", tmp_path / "run", *arguments)
    assert says in error
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_is_refused_with_the_nearest(capsys):
    assert run("train", "--methd", "dml") == 2
    assert "--method" in capsys.readouterr().err


def test_a_used_folder_is_refused(trained, capsys):
    assert "already holds a run" in refused(capsys, "train", *QUICK, "--out", trained)


def image_folder(root, per_class=12):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 190)):
        folder = root / name
        folder.mkdir(parents=True)
        for k in range(per_class):
            pixels = rng.integers(level - 50, level + 50, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


def test_a_users_own_folder_of_images_trains(tmp_path):
    root = image_folder(tmp_path / "images", 40)
    options = ["--model", "resnet8_tiny", "--batch-size", "8", "--epochs", "4", "--image-size", "16", "--peers", "2"]
    out = tmp_path / "run"
    command = ["train", "--method", "kdcl_minlogit", "--data", "image_folder", "--data-dir", root, "--out", out]
    assert run(*command, *options, "--optim.lr", "0.05") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["classes"] == ["dark", "light"]
    assert summary["last"]["test"]["mean"]["top1_error"] < 20


def test_broken_folders_of_images_are_refused_by_path(tmp_path, capsys):
    command = ["train", "--model", "resnet8_tiny", "--data", "image_folder", "--out", tmp_path / "run", "--data-dir"]
    assert "missing" in refused(capsys, *command, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, *command, tmp_path / "empty")
    root = image_folder(tmp_path / "images")
    (root / "light" / "5.png").write_bytes(b"not an image")
    assert str(root / "light" / "5.png") in refused(capsys, *command, root)
    (root / "light" / "5.png").unlink()
    (root / "hollow").mkdir()
    assert "hollow" in refused(capsys, *command, root)


def test_exit_codes_reach_the_shell(tmp_path):
    command = [sys.executable, "-m", "codistill", "train", "--method", "nonsense", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("codistill: error: unknown method 'nonsense'")
    assert "Traceback" not in ended.stderr


def test_a_users_own_method_and_network_train_by_path(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from codistill.methods import Method\n"
        "from codistill.types import StepOutput\n\n\n"
        "class Mine(Method):\n"
        "    def __init__(self, shape, *, weight: float = 1.0):\n"
        "        super().__init__(shape)\n"
        "        self.weight = weight\n\n"
        "    def step(self, rows, progress):\n"
        "        ce = rows.cross_entropy_P()\n"
        "        return StepOutput(self.weight * ce.sum(), self.weight * ce, {'ce': ce.detach().sum()})\n"
    )
    method = f"{tmp_path / 'mine.py'}:Mine"
    assert run("train", "--method", method, *QUICK, "--out", tmp_path / "run", "--set", "method_options.weight=2") == 0
    parts = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["train"]
    assert parts["loss"] == pytest.approx(2 * parts["parts"]["ce"])
