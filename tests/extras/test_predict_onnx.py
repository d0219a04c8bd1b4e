"""Predictions with an ONNX file: the same as the run's, without torch, and one sentence for a file of another kind."""

import json
import subprocess
import sys

import onnx
import pytest
from PIL import Image

import codistill
from codistill.export import export_student
from codistill.students import open_student
from codistill.training import Config, train
from refusals import refusal
from wide_pictures import write_wide

PROGRAM = """
import sys
from codistill.cli import main
main(sys.argv[1:])
slow = ("torch", "torchvision", "onnx", "scipy", "matplotlib", "jinja2")
print("slow:", [name for name in slow if name in sys.modules])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("onnx")
    write_wide(place / "data" / "train", 8)
    write_wide(place / "data" / "test", 4, seed=1)
    config = Config(
        method="dml", model=("resnet8_tiny",), peers=2, data="image_folder", data_dir=place / "data", image_size=32,
        epochs=2, batch_size=8, device="cpu", threads=1, executor="loop", workers=0, out=place / "run",
    )  # fmt: skip
    train(config)
    for name, options in (("plain", {}), ("half", {"precision": "float16"}), ("whole", {"with_preprocessing": True})):
        export_student(place / "run", place / name, format="onnx", **options)
    return place


@pytest.mark.parametrize(("name", "tolerance"), [("plain", 1e-5), ("half", 5e-3), ("whole", 1e-3)])
def test_an_onnx_file_says_what_the_run_says(place, name, tolerance):
    pictures = place / "data" / "test"
    expected = codistill.predict(place / "run", pictures)
    found = codistill.predict(place / name / "student.onnx", pictures)
    for one, other in zip(found, expected, strict=True):
        assert one.picture == other.picture
        assert dict(zip(one.classes, one.probabilities, strict=True)) == pytest.approx(
            dict(zip(other.classes, other.probabilities, strict=True)), abs=tolerance
        )


def test_a_file_that_resizes_by_itself_gets_pictures_of_several_sizes(place, tmp_path):
    write_wide(tmp_path / "wide", 2, seed=3)
    first = sorted((tmp_path / "wide").rglob("*.png"))
    with Image.open(first[1]) as picture:
        picture.resize((90, 60)).save(first[1])
    expected = codistill.predict(place / "run", tmp_path / "wide")
    found = codistill.predict(place / "whole", tmp_path / "wide")
    for one, other in zip(found, expected, strict=True):
        assert sorted(one.probabilities) == pytest.approx(sorted(other.probabilities), abs=1e-3)


def test_predicting_with_an_onnx_file_imports_no_torch(place):
    command = [sys.executable, "-c", PROGRAM, "predict", str(place / "plain"), str(place / "data" / "test"), "--csv"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(ended.stdout.splitlines()) == 1 + 12 + 1
    assert ended.stdout.splitlines()[-1] == "slow: []"
    assert ended.stderr == ""


def changed(place, tmp_path, change):
    model = onnx.load(place / "plain" / "student.onnx")
    record = json.loads({entry.key: entry.value for entry in model.metadata_props}["codistill"])
    onnx.helper.set_model_props(model, change(record))
    onnx.save(model, tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: {}, "does not name its classes"),
        (lambda record: {"codistill": json.dumps(record | {"version": 9})}, "has format version 9"),
        (lambda record: {"codistill": "no JSON"}, "is damaged"),
        (lambda record: {"codistill": json.dumps(record | {"classes": ["a", "b"]})}, "outputs [3] per picture for 2"),
        (lambda record: {"codistill": json.dumps(record | {"preparation": None})}, "how pictures are prepared"),
    ],
)
def test_a_file_that_does_not_say_what_is_needed_is_refused(place, tmp_path, change, says):
    file = changed(place, tmp_path, change)
    assert says in refusal(lambda: codistill.predict(file, place / "data" / "test"))


def test_a_file_that_is_cut_off_and_a_device_that_is_not_there_are_refused(place, tmp_path):
    whole = (place / "plain" / "student.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as an ONNX network" in refusal(lambda: open_student(tmp_path / "cut.onnx"))
    assert "device 'mps' is not there for ONNX files" in refusal(lambda: open_student(place / "plain", device="mps"))
