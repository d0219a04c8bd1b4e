"""Runs that go on, or are scored, on another machine, on another device, from another folder, with moved files."""

import dataclasses
import errno
import json
import os
import shutil

import pytest
import yaml
from PIL import Image

from codistill import cli, reports
from codistill.config import identity
from codistill.errors import UserError, notes_of
from codistill.rundir import durable, read_moves
from codistill.training import Config, OptimConfig, elsewhere, load_student, read_config, resume, train
from codistill.training.check import resolve_device
from codistill.training.checkpoint import read_checkpoint
from codistill.training.evaluate import evaluate_run
from codistill.training.optimizer import plain_state
from refusals import refusal


class StopAfter:
    def __init__(self, epochs):
        self.epochs = epochs

    def on_step(self, session, step, steps):
        if session.epoch == self.epochs:
            raise KeyboardInterrupt


def left_elsewhere(config, dataset, optimizer=None, **settings):
    """A run, interrupted in its second epoch, as a machine leaves it on which these settings hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "codistill.training.session.identity", lambda config: identity(dataclasses.replace(config, **settings))
        )
        if optimizer is not None:
            patch.setattr("codistill.training.session.whole_state", lambda of, executor: optimizer(of))
        with pytest.raises(KeyboardInterrupt):
            train(config, dataset=dataset, observers=[StopAfter(1)])
    path = config.out / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}, sort_keys=False))
    return config.out


def losses(run_dir):
    return [json.loads(line)["train"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def exit_code(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def config(quick, tmp_path):
    return dataclasses.replace(quick, method="dml", peers=2, epochs=3, out=tmp_path / "run")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_gpu_run_is_not_resumed_without_one_unless_a_device_is_given(config, digits, no_gpu, capsys):
    out = left_elsewhere(config, digits, device="cuda:1", amp="bf16")
    expected = (
        f"{out} trains on cuda:1, which is not here, and on another device its numbers will differ from those of an "
        f"undisturbed run; to go on all the same: codistill resume {out} --device cpu --amp off"
    )
    assert refusal(lambda: resume(out, dataset=digits)) == expected
    assert exit_code("resume", out) == 2
    assert expected in capsys.readouterr().err


def test_a_gpu_run_goes_on_on_a_cpu_and_remembers_it(config, digits, no_gpu, tmp_path):
    gpu = {"device": "cuda:1", "amp": "bf16", "cuda_graphs": True, "compile": True, "tf32": True, "channels_last": True}
    out = left_elsewhere(config, digits, **gpu)
    warned = pytest.warns(UserWarning, match="device cpu, amp off, cuda_graphs None, compile False")
    with warned as caught, pytest.raises(KeyboardInterrupt):
        resume(out, device="cpu", amp="off", dataset=digits, observers=[StopAfter(2)])
    assert "its numbers will differ from those of an undisturbed run" in str(caught[0].message)
    written = read_config(out / "config.yaml")
    assert (written.device, written.amp, written.cuda_graphs, written.compile) == ("cpu", "off", None, False)
    (move,) = read_moves(out)
    assert (move.epoch, move.before["device"], move.after["amp"]) == (1, "cuda:1", "off")
    # From now on it is a run of this machine.
    summary = resume(out, dataset=digits).summary
    assert [m["epoch"] for m in summary["moves"]] == [1]
    assert summary["machine"]["device"] == "cpu"
    page = reports.write_report(reports.find_runs([out]), out / "report.html").read_text()
    assert "up to epoch 1 with amp bf16, compile True, cuda_graphs True, device cuda:1" in page
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    train(whole, dataset=digits)
    assert losses(out) == losses(whole.out)
    assert evaluate_run(out, dataset=digits)["images"] == 100


def test_an_edit_is_still_noticed_after_a_move(config, digits, no_gpu):
    out = left_elsewhere(config, digits, device="cuda", amp="bf16")
    with pytest.warns(UserWarning, match="goes on with device cpu"), pytest.raises(KeyboardInterrupt):
        resume(out, device="cpu", dataset=digits, observers=[StopAfter(1)])
    assert read_config(out / "config.yaml").amp == "bf16"
    path = out / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("tf32: false", "tf32: true"))
    assert "was edited after the run began (changed: tf32" in refusal(lambda: resume(out, dataset=digits))
    # Cut off after moves.json and before config.yaml was written.
    path.write_text(text.replace("device: cpu", "device: cuda"))
    assert "trains on cuda, which is not here" in refusal(lambda: resume(out, dataset=digits))
    path.write_text(text)
    with pytest.warns(UserWarning, match="amp off"):
        resume(out, amp="off", dataset=digits)
    assert [m.after for m in read_moves(out)] == [{"device": "cpu"}, {"amp": "off"}]


@pytest.mark.parametrize(("before", "after"), [("fp16", "off"), ("off", "fp16")])
def test_the_scale_of_half_precision_comes_and_goes_with_it(config, digits, before, after):
    config = dataclasses.replace(config, amp=before)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=digits, observers=[StopAfter(1)])
    with pytest.warns(UserWarning, match=f"amp {after} .before: amp {before}."):
        resume(config.out, amp=after, dataset=digits)
    assert ("scaler" in read_checkpoint(config.out).state) == (after == "fp16")


def test_the_state_of_an_optimizer_that_was_recorded_on_a_gpu_serves_on_a_cpu(config, digits, no_gpu):
    def recorded(optimizer):
        state = plain_state(optimizer)
        return {**state, "param_groups": [{**group, "capturable": True} for group in state["param_groups"]]}

    config = dataclasses.replace(config, optim=OptimConfig(name="nadam", lr=0.001))
    out = left_elsewhere(config, digits, optimizer=recorded, device="cuda", cuda_graphs=True)
    with pytest.warns(UserWarning, match="device cpu"):
        assert resume(out, device="cpu", dataset=digits).summary["last"]["epoch"] == 3


def test_the_same_kind_of_gpu_with_another_number_goes_on(config, monkeypatch):
    monkeypatch.setattr(elsewhere, "is_here", lambda name: name in ("cpu", "cuda", "cuda:0"))
    on_gpu = dataclasses.replace(config, device="cuda:1", amp="bf16", cuda_graphs=True, compile=True)
    with pytest.warns(UserWarning, match="goes on with device cuda:0 .before: device cuda:1.: its numbers may differ"):
        after = elsewhere.settings_here(on_gpu, config.out)
    assert after == dataclasses.replace(on_gpu, device="cuda:0")
    with pytest.warns(UserWarning, match="ran on cuda:1, which is not here: it is scored on cuda:0"):
        assert elsewhere.device_to_score_on(on_gpu, config.out) == "cuda:0"


@pytest.mark.parametrize("device", ["hpu", "privateuseone", "meta", "cpu:99", "cuda:99", "tpu", ""])
def test_a_device_that_is_not_there_or_trains_nothing_is_refused(config, device):
    said = refusal(lambda: resolve_device(device))
    assert said.startswith(f"device {device!r} is not there: this machine has cpu")
    with pytest.raises(UserError, match=f"device '{device}' is not there"):
        train(dataclasses.replace(config, device=device))
    assert not config.out.exists()
    assert str(resolve_device("cpu:0")) == "cpu:0"


def test_a_gpu_run_is_scored_on_what_is_here(config, digits, no_gpu, capsys):
    out = left_elsewhere(config, digits, device="cuda:3")
    with pytest.warns(UserWarning, match="ran on cuda:3, which is not here: it is scored on cpu") as caught:
        found = evaluate_run(out, dataset=digits)
    assert len(caught) == 1
    assert found == evaluate_run(out, device="cpu", amp="off", dataset=digits)
    assert read_config(out / "config.yaml").device == "cuda:3"
    rounded = evaluate_run(out, device="cpu", amp="bf16", dataset=digits)
    assert rounded["leader"]["nll"] != found["leader"]["nll"]
    assert rounded["leader"]["nll"] == pytest.approx(found["leader"]["nll"], rel=0.05)
    assert "is not there" in refusal(lambda: evaluate_run(out, device="cuda", dataset=digits))
    assert "is not there" in refusal(lambda: resume(out, device="cuda:3", dataset=digits))
    assert str(resolve_device("auto")) == "cpu"


def folder_of_images(root, classes="ab"):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16), (60 * label + 4 * i + 40, 90, 9)).save(root / name / f"{i:02}.png")
    return root


def on_images(out, **settings):
    return Config(
        method="ind", model=("resnet8_tiny",), peers=2, data="image_folder", image_size=16, epochs=2, batch_size=8,
        device="cpu", deterministic=True, threads=1, out=out, optim=OptimConfig(lr=0.05), **settings,
    )  # fmt: skip


def test_moved_images_and_a_moved_run_go_on_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = folder_of_images(tmp_path / "images" / "train")
    folder_of_images(tmp_path / "images" / "val")
    with pytest.raises(KeyboardInterrupt):
        train(on_images("run", data_dir=root, validation_dir="images/val"), observers=[StopAfter(1)])
    run = (tmp_path / "run").rename(tmp_path / "a run")
    (tmp_path / "images").rename(tmp_path / "pictures")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = refusal(lambda: resume("../a run"))
    assert f"data_dir {root} of ../a run: there is no such folder" in said
    assert said.endswith("codistill resume '../a run' --data-dir NEW")
    assert "--data-dir NEW" in refusal(lambda: evaluate_run(run))
    assert "there is nothing" in refusal(lambda: resume(run, data_dir="nowhere"))
    other = folder_of_images(tmp_path / "other" / "train", classes="xyz")
    assert f"validation_dir {tmp_path}/other/val of" in refusal(lambda: resume(run, data_dir=other))
    folder_of_images(tmp_path / "other" / "val", classes="xyz")
    assert "was trained on other data" in refusal(lambda: resume(run, data_dir=other))
    assert read_config(run / "config.yaml").data_dir == root
    cli.main(["resume", "../a run", "--data-dir", "../pictures/train"])
    written = read_config(run / "config.yaml")
    assert (written.data_dir.resolve(), written.validation_dir.resolve()) == (
        tmp_path / "pictures/train",
        tmp_path / "pictures/val",
    )
    assert evaluate_run(run)["images"] > 0


def read_only(file):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_the_images_of_a_finished_run_can_be_found_again(tmp_path, monkeypatch):
    root = folder_of_images(tmp_path / "images")
    out = tmp_path / "run"
    train(on_images(out, data_dir=root))
    moved, other = root.rename(tmp_path / "moved"), folder_of_images(tmp_path / "other", classes="xyz")
    assert "was trained on other data" in refusal(lambda: resume(out, data_dir=other))
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_sync", read_only)
        said = refusal(lambda: resume(out, data_dir=moved))
    assert said == (
        f"out {out / 'config.yaml'} cannot be written (Read-only file system): resume a copy of the run in a folder "
        "that can be."
    )
    assert resume(out, data_dir=moved).summary["classes"] == ["a", "b"]
    assert evaluate_run(out)["images"] > 0
    digits = tmp_path / "digits"
    train(
        Config(
            method="ind",
            model="resnet8_tiny",
            peers=1,
            epochs=1,
            train_subset=64,
            batch_size=32,
            device="cpu",
            out=digits,
        )
    )
    assert "reads no folder of yours" in refusal(lambda: resume(digits, data_dir=moved))


def test_relative_paths_in_settings_lead_to_the_same_files_from_everywhere(config, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(config.model[0].rpartition(":")[0], tmp_path / "net.py")
    model = "net.py:" + config.model[0].rpartition(":")[2]
    (tmp_path / "method.py").write_text("from codistill.methods.kd import KD\n\n\nclass Mine(KD):\n    pass\n")
    train(dataclasses.replace(config, model=(model,), epochs=1, out="teacher"), dataset=digits)
    student = dataclasses.replace(
        config,
        method="method.py:Mine",
        method_options={},
        model=(model,),
        init=("teacher",),
        teachers=("teacher",),
        out="student",
    )
    with pytest.raises(KeyboardInterrupt):
        train(student, dataset=digits, observers=[StopAfter(1)])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    written = read_config(tmp_path / "student/config.yaml")
    assert (written.teachers, written.init) == ((str(tmp_path / "teacher"),), (str(tmp_path / "teacher"),))
    assert resume("../student", dataset=digits).summary["last"]["epoch"] == 3
    assert load_student("../student") is not None


def test_an_interruption_carries_a_note_of_the_path(config, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(dataclasses.replace(config, out="my runs/a"), dataset=digits, observers=[StopAfter(1)])
    command = "to continue from the last checkpoint: codistill resume 'my runs/a'"
    assert notes_of(stop.value) == (command,)
    with pytest.raises(KeyboardInterrupt) as stop:
        resume("my runs/a", dataset=digits, observers=[StopAfter(2)])
    assert notes_of(stop.value) == (command,)
    monkeypatch.setattr("codistill.progress.RunProgress.on_step", lambda _, *rest: StopAfter(0).on_step(*rest))
    quick = ("--method", "ind", "--model", "resnet8_tiny", "--epochs", 1, "--train-subset", 64, "--batch-size", 32)
    assert exit_code("train", *quick, "--device", "cpu") == 130
    assert capsys.readouterr().err.endswith("codistill resume runs/digits-resnet8_tiny-ind-seed0\n")
    assert resume("runs/digits-resnet8_tiny-ind-seed0").summary["last"]["epoch"] == 1


def test_an_interruption_before_the_first_checkpoint_says_how_to_start_again(config, digits, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("codistill.training.run.Saver.save", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        train(config, dataset=digits)
    assert notes_of(stop.value) == ("it was before the first step, and the same command with --overwrite starts again",)
    with pytest.raises(UserError, match="already holds a run"):
        train(config, dataset=digits)


def test_a_run_ends_where_python_has_no_resource_module(config, digits, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resource", None)
    summary = train(dataclasses.replace(config, epochs=1), dataset=digits).summary
    assert summary["peak_memory"] is None
    assert reports.write_report(reports.find_runs([config.out]), config.out / "report.html").is_file()
