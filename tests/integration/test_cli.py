"""The command line as a user types it: exit codes, one sentence for a mistake, files left behind."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import codistill
from codistill import commands, models
from codistill.data import AugmentPolicy
from codistill.rundir import durable
from codistill.training import OptimConfig
from refusals import refused, run

QUICK = ["--model", "resnet8_tiny", "--peers", "2", "--batch-size", "64", "--epochs", "1", "--device", "cpu"]


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
        (["train"], "interrupted before the first step; the same command starts again\n"),
        (
            ["study", "okddip/table2", "--out", "my runs"],
            "interrupted; to continue with the runs that are not done: codistill study okddip/table2 --out 'my runs'\n",
        ),
        (["list", "data"], "interrupted\n"),
    ):
        assert run(*arguments) == 130
        assert capsys.readouterr().err == says


def test_an_interrupted_run_names_the_command_that_continues_it(monkeypatch, capsys, tmp_path):
    def interrupted(self, session, record):
        raise KeyboardInterrupt

    monkeypatch.setattr("codistill.progress.RunProgress.on_epoch", interrupted)
    out = tmp_path / "my run"
    assert run("train", "--method", "ind", *QUICK, "--train-subset", "64", "--out", out) == 130
    said = capsys.readouterr().err
    assert said == f"interrupted; to continue from the last checkpoint: codistill resume '{out}'\n"
    monkeypatch.undo()
    assert run("resume", out) == 0


def test_a_run_says_what_it_trains_each_epoch_in_a_line_and_what_comes_next(tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", "--method", "ind", *QUICK, "--train-subset", "128", "--seed", "5", "--out", out) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith(
        "ind: 2 students, resnet8_tiny, on digits: 10 classes; 128 training, 144 validation, 359 test images (8 × 8"
    )
    assert lines[1].startswith("1 epochs of 2 batches of 64, sgd with learning rate 0.1 (step), on cpu (")
    assert f"seed 5, into {out}; errors below are those of the mean student" in lines[1]
    epochs = [line for line in lines if line.startswith("epoch 1/1: training error ")]
    assert len(epochs) == 1
    assert all(what in epochs[0] for what in ("validation error", "loss", "learning rate 0.1", "images/s", "0:00 left"))
    test = json.loads((out / "summary.json").read_text())["last"]["test"]
    assert f"is the one to deploy: {test['leader']['top1_error']:.2f} % test error on 359 images" in text
    assert f"The ensemble of all 2 has {test['ensemble']['top1_error']:.2f} %" in text
    for command in ("report", "evaluate", "export"):
        assert f"  codistill {command} {out}" in text


def test_the_most_confident_mistakes_are_kept_with_the_run(trained):
    images = json.loads((trained / "mistakes.json").read_text())["images"]
    test = json.loads((trained / "summary.json").read_text())["last"]["test"]
    assert 0 < len(images) <= 12
    confidences = [one["confidence"] for one in images]
    assert confidences == sorted(confidences, reverse=True)
    for one in images:
        assert test["confusion"][one["truth"]][one["predicted"]] > 0
    assert "The most confident mistakes" in (trained / "report.html").read_text()


def test_multiply_accumulates_are_those_of_the_list_of_networks(trained):
    counted = json.loads((trained / "summary.json").read_text())["multiply_accumulates"]
    assert counted["training"] == 2 * counted["deployed"] > 0


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


def test_a_finished_run_that_cannot_be_written_is_resumed_with_the_report_that_it_has(trained, monkeypatch, capsys):
    def read_only(file):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(durable, "_sync", read_only)
    before = (trained / "report.html").read_bytes()
    assert run("resume", trained) == 0
    said = capsys.readouterr()
    assert f"{trained / 'report.html'} cannot be written (Read-only file system): it stays as it was" in said.err
    assert (trained / "report.html").read_bytes() == before


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


def test_the_list_of_networks_says_what_else_model_takes(capsys):
    assert run("list", "models") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(form in text for form in ("torchvision:NAME", "timm:NAME", "path/to/file.py:NAME"))


def test_the_list_of_methods_says_when_to_choose_each(capsys):
    assert run("list", "methods", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows if not row["choose_it_when"]] == []
    assert run("list", "methods") == 0
    assert capsys.readouterr().out.count("choose it when") == len(rows)


def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"codistill {codistill.__version__}\n"


def test_help_is_in_groups_and_names_what_an_option_takes(capsys):
    assert run("train", "--help") == 0
    out = capsys.readouterr().out
    groups = ("method", "network", "data", "optimisation", "speed", "output")
    places = [re.search(f"^[╭─ ]*{name} options ", out, re.MULTILINE).start() for name in groups]
    assert places == sorted(places)
    assert "{None}" not in out
    assert "--peers INT" in out
    assert places[2] < out.index("--data-dir PATH") < places[3]
    assert places[4] < out.index("--device") < places[5] < out.index("--out PATH")
    assert places[4] < out.index("--threads INT") < places[5]
    threads = out[out.index("--threads INT") :]
    assert "Changes results by rounding only." in " ".join(re.sub("[│|]", " ", threads).split())[:300]


def test_options_of_every_group_reach_the_configuration():
    options = ["--peers", "3", "--model", "resnet20", "resnet32", "--data-dir", "/d", "--class-weights", "1", "2"]
    command = commands.parse(["train", *options, "--optim.lr", "0.3", "--augment.flip", "False", "--threads", "2"])
    assert command == commands.Train(
        peers=3,
        model=("resnet20", "resnet32"),
        data_dir=Path("/d"),
        class_weights=(1.0, 2.0),
        optim=OptimConfig(lr=0.3),
        augment=AugmentPolicy(flip=False),
        threads=2,
    )
    assert commands.parse(["train"]) == commands.Train()


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
        (["--model", "efficientnet_b0"], "'torchvision:efficientnet_b0'"),
        (["--model", "torchvision:alexnet", "--data", "glyphs", "--image-size", "16"], "(--image-size)"),
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
