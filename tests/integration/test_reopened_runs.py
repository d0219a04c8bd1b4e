"""A run that is opened again, to go on or to be scored: the same data, the same settings, an honest leader."""

import dataclasses
import json
import shutil
from functools import partial

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from codistill.data import normalise
from codistill.training import Config, OptimConfig, load_student, read_config, resume, train
from codistill.training.evaluate import evaluate_run
from refusals import refusal


class StopAfter:
    def __init__(self, epochs):
        self.epochs = epochs

    def on_step(self, session, step, steps):
        if session.epoch == self.epochs:
            raise KeyboardInterrupt


def interrupted(config, dataset=None, after=1):
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=dataset, observers=[StopAfter(after)])
    return config.out


def forget_data(run_dir):
    """Leave the run as one from before the data were recorded."""
    facts = json.loads((run_dir / "input.json").read_text())
    facts.pop("data", None)
    (run_dir / "input.json").write_text(json.dumps(facts))


@pytest.fixture
def cut(quick, digits, tmp_path):
    """A run on data of the user's own, interrupted in its second epoch."""
    return interrupted(dataclasses.replace(quick, method="dml", out=tmp_path / "run"), digits)


def test_a_run_on_data_from_python_is_not_taken_for_one_on_the_default_data(cut, digits):
    assert read_config(cut / "config.yaml").data == "own"
    for call in (resume, evaluate_run):
        assert "pass the same dataset= from Python" in refusal(lambda call=call: call(cut))
    assert resume(cut, dataset=digits).summary["data"] == "own"
    assert evaluate_run(cut, dataset=digits)["images"] == 100


def test_other_data_than_the_run_began_with_are_refused_by_what_differs(cut, digits):
    swapped = dataclasses.replace(digits.train, labels_N=digits.train.labels_N.flip(0))
    others = {
        "400 training images then, 300 now": {"train": digits.train.take(torch.arange(300))},
        "100 test images then, 90 now": {"test": digits.test.take(torch.arange(90))},
        "other labels": {"train": swapped},
        "class 9 was '9', is 'nine'": {"classes": (*digits.classes[:-1], "nine")},
        "mean": {"mean": (digits.mean[0] + 0.02,)},
    }
    for says, change in others.items():
        other = dataclasses.replace(digits, **change)
        for call in (resume, partial(evaluate_run, split="validation")):
            error = refusal(lambda call=call, other=other: call(cut, dataset=other))
            assert says in error
            assert "give the same dataset=" in error


def test_other_test_images_of_the_same_classes_can_be_scored(cut, digits):
    fewer = dataclasses.replace(digits, test=digits.test.take(torch.arange(90)))
    assert evaluate_run(cut, dataset=fewer)["images"] == 90
    renamed = dataclasses.replace(fewer, classes=(*digits.classes[:-1], "nine"))
    assert "class 9 was '9', is 'nine'" in refusal(lambda: evaluate_run(cut, dataset=renamed))
    lighter = dataclasses.replace(fewer, mean=(digits.mean[0] + 0.02,))
    assert "mean of the pixels" in refusal(lambda: evaluate_run(cut, dataset=lighter))


def test_a_run_from_before_the_data_were_recorded_goes_on(cut, digits):
    forget_data(cut)
    assert resume(cut, dataset=digits).summary["kind"] == "codistill-run"


def test_a_torch_dataset_is_known_again(quick, digits, tmp_path):
    pair = tuple(TensorDataset(part.images_NCHW, part.labels_N) for part in (digits.train, digits.test))
    out = interrupted(dataclasses.replace(quick, out=tmp_path / "run"), pair)
    assert resume(out, dataset=pair).summary["data"] == "own"


def folder_of_images(root):
    for label, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (16, 16), (60 * label + 4 * i + 40, 90, 9)).save(root / name / f"{i:02}.png")
    return root


def test_a_folder_of_images_that_changed_since_the_start_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = folder_of_images(tmp_path / "images")
    config = Config(
        method="ind", model=("resnet8_tiny",), peers=2, data="image_folder", data_dir="images", image_size=16,
        epochs=2, batch_size=8, device="cpu", deterministic=True, out=tmp_path / "run", optim=OptimConfig(lr=0.05),
    )  # fmt: skip
    out = interrupted(config)
    # The folder is found from everywhere.
    assert read_config(out / "config.yaml").data_dir == root
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copy(root / "a" / "00.png", root / "a" / "99.png")
    assert "training images then" in refusal(lambda: resume(out))
    (root / "a" / "99.png").unlink()
    (root / "b").rename(root / "c")
    assert "class 1 was 'b', is 'c'" in refusal(lambda: evaluate_run(out))
    # Images that were moved are the same images, once config.yaml says where they are.
    (root / "c").rename(root / "b")
    moved = root.rename(tmp_path / "moved")
    assert "there is no such folder" in refusal(lambda: resume(out))
    path = out / "config.yaml"
    path.write_text(path.read_text().replace(str(root), str(moved)))
    assert resume(out).summary["classes"] == ["a", "b"]


def test_an_evaluation_notices_an_edited_configuration(cut, digits):
    path = cut / "config.yaml"
    path.write_text(path.read_text().replace("validation: 0.1", "validation: 0.2"))
    assert "was edited after the run began (changed: validation" in refusal(lambda: evaluate_run(cut, dataset=digits))


def test_an_unfinished_run_is_scored_with_the_leader_of_its_validation_part(cut, digits):
    leader = evaluate_run(cut, split="validation", dataset=digits)["leader_peer"]
    other = (leader + 1) % 3
    images = normalise(digits.test.images_NCHW, digits.mean, digits.std, "cpu")
    with torch.no_grad():
        predicted = load_student(cut, peer=other)(images).argmax(1)
    forget_data(cut)
    flattering = dataclasses.replace(digits, test=dataclasses.replace(digits.test, labels_N=predicted))
    record = evaluate_run(cut, dataset=flattering)
    assert record["peers"][other]["top1_error"] == 0
    assert record["leader_peer"] == leader
