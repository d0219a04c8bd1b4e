"""Runs on the user's own images: their validation part, random transforms that resume, and the summary of the data."""

import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Dataset

from codistill.cli import main
from codistill.config import Config, OptimConfig, read_config
from codistill.rundir import InputRecord, read_record
from codistill.training import resume, train
from codistill.training.build import build_session
from codistill.training.checkpoint import latest
from codistill.training.evaluate import evaluate_run
from refusals import refusal


def write_part(folder, images, first=0):
    for label, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            Image.new("RGB", (20, 20), (100 * label + first + i, 60, 90)).save(folder / name / f"{i:02}.png")


@pytest.fixture
def folder(tmp_path):
    for part, images, first in (("train", 16, 0), ("val", 5, 20), ("test", 4, 30)):
        write_part(tmp_path / "data" / part, images, first)
    return tmp_path / "data"


@pytest.fixture
def own(folder, tmp_path):
    return Config(
        method="ind", model=("resnet8_tiny",), peers=2, data="image_folder", data_dir=folder, image_size=16, epochs=1,
        batch_size=8, device="cpu", executor="loop", workers=0, out=tmp_path / "run", optim=OptimConfig(lr=0.05),
    )  # fmt: skip


@pytest.mark.parametrize("memory", [8.0, 0.0])
def test_the_users_validation_part_is_the_runs_and_is_kept_from_training(own, memory):
    with build_session(dataclasses.replace(own, data_memory=memory)) as session:
        assert session.splits.train_N.tolist() == list(range(32))
        assert session.splits.validation_N.tolist() == list(range(32, 42))


def test_images_that_a_method_holds_out_come_from_the_training_images(own):
    with build_session(dataclasses.replace(own, method="kdcl_general")) as session:
        splits = session.splits
        assert len(splits.held_out_N) > 0
        assert sorted([*splits.train_N.tolist(), *splits.held_out_N.tolist()]) == list(range(32))
        assert splits.validation_N.tolist() == list(range(32, 42))


def test_a_share_for_validation_next_to_a_validation_part_is_said_to_have_no_effect(own):
    with pytest.warns(UserWarning, match="validation 0.3 has no effect: .* validation part of 10 images"):
        build_session(dataclasses.replace(own, validation=0.3)).executor.close()


def test_a_run_scores_its_validation_part_resumes_and_records_what_it_learnt_from(own, folder, capsys):
    result = train(own)
    assert result.summary["images"] == {"train": 32, "validation": 10, "test": 8, "held_out": 0}
    assert result.summary["last"]["validation"]["images"] == 10
    assert evaluate_run(own.out, split="validation") == result.summary["last"]["validation"]
    images = read_record(own.out / "input.json", InputRecord).images
    assert images.per_class == {"training": (16, 16), "validation": (5, 5), "test": (4, 4)}
    assert images.sizes == ((20, 20), (20, 20), (20, 20))
    assert images.notes == (f"{folder / 'val'} is the validation part",)
    # Without its validation part the data are others.
    (folder / "val").rename(folder.parent / "gone")
    assert "was trained on other data (42 training images then, 32 now)" in refusal(evaluate_run, own.out)


def test_a_validation_folder_is_found_again_from_any_place(own, folder, tmp_path, monkeypatch):
    (folder / "val").rename(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    train(dataclasses.replace(own, validation_dir="mine"))
    assert read_config(own.out / "config.yaml").validation_dir == tmp_path / "mine"
    monkeypatch.chdir("/")
    assert evaluate_run(own.out, split="validation")["images"] == 10


@pytest.mark.parametrize("kind", ["digits", "parquet:x", "own"])
def test_a_validation_folder_that_nothing_reads_is_refused(own, tmp_path, kind):
    said = refusal(build_session, dataclasses.replace(own, data=kind, data_dir=None, validation_dir=tmp_path))
    assert said.startswith(f"validation_dir {tmp_path} with the data {kind!r}: only image_folder and imagenet read a ")


def options_of(own):
    return [
        "train", "--method", "ind", "--model", "resnet8_tiny", "--peers", "2", "--data", "image_folder", "--data-dir",
        str(own.data_dir), "--image-size", "16", "--batch-size", "8", "--epochs", "1", "--device", "cpu",
        "--executor", "loop", "--out", str(own.out),
    ]  # fmt: skip


@pytest.mark.parametrize("dry", [True, False])
def test_the_terminal_shows_the_data_before_training(own, folder, dry, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    (folder / "train" / "a" / "15.png").write_bytes((folder / "test" / "a" / "00.png").read_bytes())
    (folder / "train" / "b" / "15.png").write_bytes(b"no image")
    main([*options_of(own), "--bad-images", "skip", *["--dry-run"] * dry])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert "images per class, training/validation/test: a 16/5/4, b 15/5/4" in lines
    assert "the same image in two parts: 1 test images are also training images (same pixels at 16 × 16)" in lines
    assert f"{folder / 'val'} is the validation part" in lines
    assert "codistill: warning: 1 image that cannot be decoded is left out (1 of b); the first is " in shown.err
    if not dry:
        first = next(i for i, line in enumerate(lines) if "validation error" in line)
        assert lines.index("images per class, training/validation/test: a 16/5/4, b 15/5/4") < first
        assert json.loads((own.out / "input.json").read_text())["images"]["skipped"] == {"b": 1}


def test_damaged_images_end_in_one_list_and_exit_code_2(own, folder, capsys):
    for name in ("a", "b"):
        (folder / "train" / name / "03.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        main(options_of(own))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "codistill: error: 2 images cannot be decoded: " in said
    assert all(str(folder / "train" / name / "03.png") in said for name in "ab")
    assert not own.out.exists()


class Shaky(Dataset):
    """Random shades, with two classes far apart."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.rand(3, 16, 16) * 0.5 + index % 2 * 0.4, index % 2


class Stop:
    def on_step(self, session, step, steps):
        if session.epoch == 1 and step == 2:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:the training part gives other images")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_on_random_transforms_resumes_to_the_bit(own, tmp_path, workers):
    config = dataclasses.replace(own, data="own", data_dir=None, image_size=None, epochs=2, workers=workers)
    train(dataclasses.replace(config, out=tmp_path / "whole", workers=0), dataset=Shaky())
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "cut"), dataset=Shaky(), observers=[Stop()])
    torch.rand(5)
    resume(tmp_path / "cut", dataset=Shaky())
    whole, cut = (load_file(latest(tmp_path / name) / "weights.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (
        read_record(tmp_path / "cut" / "input.json", InputRecord)
        .images.notes[0]
        .startswith("the training part gives other images when it is read again")
    )
