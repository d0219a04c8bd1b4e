"""Students as ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from codistill import load_student
from codistill.export import ExportRequest, export, export_student
from codistill.prepare import prepare
from codistill.rundir import StudentRecord, read_record
from export_runs import agrees, classified, draw_pictures, program_of, train_on
from refusals import refusal


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    return train_on(pictures, tmp_path_factory.mktemp("tiny") / "run", "resnet8_tiny", epochs=4)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """Folders by precision and by whether the graph prepares pictures, each made on first use."""
    made = {}

    def folder(precision="float32", with_preprocessing=False):
        key = (precision, with_preprocessing)
        if key not in made:
            out = tmp_path_factory.mktemp("onnx") / "out"
            options = {"precision": precision, "with_preprocessing": with_preprocessing}
            made[key] = export(ExportRequest(run, "onnx", out=out, **options))
        return made[key]

    return folder


def check_of(done):
    return read_record(done.folder / "student.json", StudentRecord).files["student.onnx"].check


def session_of(done):
    return onnxruntime.InferenceSession(done.folder / "student.onnx", providers=["CPUExecutionProvider"])


def test_the_file_alone_is_enough_to_predict_with(run, exported):
    done = exported()
    session = session_of(done)
    record = StudentRecord.from_json(json.loads(session.get_modelmeta().custom_metadata_map["codistill"]))
    assert record.classes == ("a", "b", "c")
    assert record.preparation == read_record(run / "input.json", StudentRecord.__base__).preparation
    (file,) = record.files.values()
    assert (file.reads, file.gives, file.precision) == ("images", "logits", "float32")
    opset = {entry.domain: entry.version for entry in onnx.load(done.folder / "student.onnx").opset_import}[""]
    assert file.opset == opset
    assert f"opset {opset}" in done.lines[-1]


def test_batches_of_any_size_give_the_students_logits(run, exported):
    session, student = session_of(exported()), load_student(run)
    assert session.get_inputs()[0].shape == ["batch", 3, 32, 32]
    for images in (1, 5):
        x = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(images))
        (logits,) = session.run(["logits"], {"images": x.numpy()})
        np.testing.assert_allclose(logits, student(x).detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_file_is_checked_within_the_tolerance_of_its_precision(exported, precision):
    check, sizes = check_of(exported(precision)), []
    share = {"float32": 1e-4, "float16": 2e-2}[precision]
    assert 0 < check.largest_difference <= check.tolerance == pytest.approx(share * check.scale)
    assert (check.of, check.compared) == ("validation images", "logits")
    sizes = [(exported(p).folder / "student.onnx").stat().st_size for p in ("float32", "float16")]
    assert sizes[1] < 0.75 * sizes[0]


def test_int8_is_calibrated_on_training_images_and_its_error_is_measured(exported):
    done = exported("int8")
    check = check_of(done)
    kinds = {node.op_type for node in onnx.load(done.folder / "student.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert check.tolerance is None
    assert check.file_error is not None
    assert f"error {check.student_error:.2f} % before, {check.file_error:.2f} % in the file" in done.lines[-1]
    # All that there are, since the run learned from fewer than the 256 that are asked for.
    images = json.loads((done.folder / "student.json").read_text())["data"]["training_images"]
    assert f"with the ranges of {images - check.images} training images: on" in done.lines[-1]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_graph_that_prepares_pictures_takes_any_size_and_gives_probabilities(run, exported, pictures, precision):
    done = exported(precision, True)
    session, student = session_of(done), load_student(run)
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape) == ("pictures", "tensor(uint8)", ["batch", "height", "width", 3])
    how = json.loads((done.folder / "student.json").read_text())["preparation"]
    for width, height in ((120, 40), (37, 90)):
        image = Image.open(pictures / "test" / "b" / "3.png").resize((width, height))
        (found,) = session.run(None, {"pictures": np.asarray(image)[None]})
        logits = student(torch.from_numpy(prepare(image, how))[None])
        assert found.sum() == pytest.approx(1, abs=1e-5)
        tolerance = 0.02 if precision == "float32" else 0.25
        np.testing.assert_allclose(found, logits.softmax(1).detach().numpy(), rtol=0, atol=tolerance)
    assert "pictures made of validation images" in done.lines[-1]


@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_the_cards_program_without_codistill_has_the_error_that_codistill_measured(
    run, exported, pictures, tmp_path, with_preprocessing
):
    folder = exported("float32", with_preprocessing).folder
    files = sorted((pictures / "test").rglob("*.png"))
    answers = classified(folder, "student.onnx", files, tmp_path)
    # The graph rounds a pixel now and then to the next grey level.
    agrees(answers, run, pictures, 1e-2 if with_preprocessing else 1e-3)


def test_the_cards_program_loads_no_torch(exported, pictures):
    code = program_of(exported().folder, "student.onnx").replace(
        '"picture.jpg"', repr(str(pictures / "test" / "a" / "0.png"))
    )
    code = f"import sys; sys.path.insert(0, '.')\n{code}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=exported().folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_int8_without_images_is_refused(finished_run, tmp_path):
    said = refusal(lambda: export_student(finished_run, tmp_path / "out", format="onnx", precision="int8"))
    assert said.startswith("int8 is calibrated on the run's images, which cannot be read here: ")
    assert list(tmp_path.iterdir()) == []
