"""Students as files: what is in them, that it is checked on the run's images, and that nothing half-done is left."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from codistill import Config, load_student, train
from codistill.export import ExportRequest, export, export_student
from codistill.export import package as packing
from codistill.rundir import StudentRecord, read_record
from codistill.training import teachers as teaching
from codistill.training.checkpoint import latest
from export_runs import agrees, classified, draw_pictures, train_on
from refusals import refusal


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def of_torchvision(pictures, tmp_path_factory):
    return train_on(pictures, tmp_path_factory.mktemp("torchvision") / "run", "torchvision:shufflenet_v2_x0_5")


@pytest.fixture(scope="module")
def of_timm(pictures, tmp_path_factory):
    return train_on(pictures, tmp_path_factory.mktemp("timm") / "run", "timm:test_resnet", average=0.5)


@pytest.fixture(scope="module")
def tiny(pictures, tmp_path_factory):
    return train_on(pictures, tmp_path_factory.mktemp("tiny") / "run", "resnet8_tiny")


def request_for(run: Path, **fields: object) -> ExportRequest:
    return ExportRequest(run, **fields)


def record_of(folder: Path) -> StudentRecord:
    return read_record(folder / "student.json", StudentRecord)


def files_of(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_every_file_is_checked_on_validation_images_of_the_run(tiny, tmp_path):
    done = export(request_for(tiny, out=tmp_path / "out"))
    check = record_of(done.folder).files["student.safetensors"].check
    images = json.loads((tiny / "summary.json").read_text())["images"]["validation"]
    assert (check.images, check.of, check.compared) == (images, "validation images", "logits")
    assert (check.largest_difference, check.agreement) == (0, 100)
    # The same images with the same labels as in training.
    errors = json.loads((tiny / "summary.json").read_text())["last"]["validation"]["leader"]["top1_error"]
    assert check.student_error == check.file_error == pytest.approx(errors)
    (line,) = done.lines
    assert line.endswith(f"the logits equal the trained student's to the bit on {images} validation images")
    assert files_of(done.folder) == {"student.safetensors", "student.json", "README.md", "prepare.py"}


def test_half_precision_halves_the_file_and_is_measured(tiny, tmp_path):
    whole = export_student(tiny, tmp_path / "whole")
    half = export_student(tiny, tmp_path / "half", precision="float16")
    sizes = [(folder / "student.safetensors").stat().st_size for folder in (whole, half)]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    check = record_of(half).files["student.safetensors"].check
    assert 0 < check.largest_difference <= check.tolerance == pytest.approx(0.02 * check.scale)
    assert record_of(whole).weights_sha256 == record_of(half).weights_sha256


def test_formats_of_one_student_share_a_folder_and_another_student_replaces_them(tiny, tmp_path):
    out = tmp_path / "out"
    export_student(tiny, out, peer=0)
    export_student(tiny, out, peer=0, format="hub")
    assert set(record_of(out).files) == {"student.safetensors", "model.safetensors"}
    card = (out / "README.md").read_text()
    assert "## Use `model.safetensors`" in card
    assert "## Use `student.safetensors`" in card
    done = export(request_for(tiny, out=out, peer="1", format="hub"))
    assert f"removed from {out}, since they hold another student: student.safetensors" in done.lines
    assert files_of(out) == {"model.safetensors", "config.json", "student.json", "README.md", "prepare.py"}
    assert record_of(out).peer == 1


def test_a_failed_export_leaves_the_earlier_one_and_nothing_else(tiny, tmp_path, monkeypatch):
    out = export_student(tiny, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def spoilt(job):
        with torch.no_grad():
            next(job.student.parameters()).add_(0.1)
        return write(job)

    write = packing.write_weights
    monkeypatch.setattr(packing, "write_weights", spoilt)
    said = refusal(lambda: export_student(tiny, out, peer=1, precision="float16"))
    assert "the safetensors file's logits differ by" in said
    assert said.endswith("validation images): nothing was exported; export with --precision float32.")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    refusal(lambda: export_student(tiny, tmp_path / "new" / "deep", precision="float16"))
    assert files_of(tmp_path) == {"out"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_may_be_read_by_whom_the_umask_allows(tiny, program, tmp_path):
    before = os.umask(0o022)
    try:
        folder = export_student(tiny, tmp_path / "out", format="hub")
    finally:
        os.umask(before)
    for written in (folder, program):
        assert {stat.S_IMODE(file.stat().st_mode) for file in written.iterdir()} == {0o644}
        assert stat.S_IMODE(written.stat().st_mode) == 0o755


def test_a_folder_of_something_else_is_not_written_over(tiny, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    said = refusal(lambda: export_student(tiny, tmp_path))
    assert said == f"{tmp_path} holds a README.md and no export: give an empty folder with --out."
    assert files_of(tmp_path) == {"README.md"}
    assert "is a file: give the path of a folder" in refusal(lambda: export_student(tiny, tmp_path / "README.md"))


def test_a_run_directory_is_not_written_into(tiny, of_timm):
    before = files_of(of_timm)
    for out in (of_timm, tiny):
        said = refusal(lambda out=out: export_student(tiny, out))
        assert said == (
            f"out {out} is a run directory, which stands for the students of its own run: give another --out."
        )
    assert files_of(of_timm) == before


def test_moved_data_are_found_by_data_dir_and_without_them_pixels_are_random(tiny, pictures, tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(tiny, run)
    shutil.copytree(pictures, moved)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(pictures), str(tmp_path / "gone")))
    done = export(request_for(run))
    assert done.lines[0].startswith("checked on random pixels, since the run's data cannot be read here (")
    assert done.lines[0].endswith("; --data-dir says where they are now")
    assert record_of(done.folder).files["student.safetensors"].check.of == "random pixels"
    export_student(run, data_dir=moved)
    assert record_of(done.folder).files["student.safetensors"].check.of == "validation images"
    shutil.rmtree(moved / "test" / "c")
    assert "was trained on other data" in refusal(lambda: export_student(run, data_dir=moved))


def test_data_from_python_are_given_again(finished_run, digits, tmp_path):
    done = export(request_for(finished_run, out=tmp_path / "a"))
    assert "none are given here" in done.lines[0]
    assert not done.lines[0].endswith("--data-dir says where they are now")
    folder = export(request_for(finished_run, out=tmp_path / "b"), dataset=digits).folder
    assert record_of(folder).files["student.safetensors"].check.of == "validation images"


def test_moving_averages_are_what_is_exported_and_missing_ones_are_told(tiny, of_timm, tmp_path):
    said = refusal(lambda: export_student(tiny, tmp_path / "out", averaged=True))
    assert (
        said
        == f"{tiny} keeps no moving averages of its weights: leave --averaged out, or train it with --average 0.999."
    )
    folder = export_student(of_timm, tmp_path / "out", averaged=True, peer=0)
    assert record_of(folder).weights == "averaged"
    exported = load_file(folder / "student.safetensors")["fc.weight"]
    checkpoint = load_file(latest(of_timm) / "weights.safetensors")
    assert torch.equal(exported, checkpoint["averages.networks.0.fc.weight"])
    assert not torch.equal(exported, checkpoint["group.networks.0.fc.weight"])


@pytest.mark.parametrize("run", ["of_torchvision", "of_timm"])
def test_the_cards_program_without_codistill_has_the_error_that_codistill_measured(run, request, pictures, tmp_path):
    run = request.getfixturevalue(run)
    folder = export_student(run, tmp_path / "out")
    files = sorted((pictures / "test").rglob("*.png"))
    answers = classified(folder, "student.safetensors", files, tmp_path)
    test = json.loads((run / "summary.json").read_text())["last"]["test"]["leader"]
    agrees(answers, run, pictures)
    student = json.loads((folder / "student.json").read_text())
    assert student["test"] == test
    card = (folder / "README.md").read_text()
    assert f"```python\n{(folder / 'prepare.py').read_text()}```" in card
    assert f"{test['top1_error']:.2f} %" in card


@pytest.fixture(scope="module")
def program(tiny, tmp_path_factory):
    before = os.umask(0o022)
    try:
        return export_student(tiny, tmp_path_factory.mktemp("program") / "out", format="torch-export")
    finally:
        os.umask(before)


def test_a_program_of_torch_export_takes_batches_of_any_size_and_knows_its_classes(tiny, program):
    extra = {"student.json": ""}
    network = torch.export.load(program / "student.pt2", extra_files=extra).module()
    inside = StudentRecord.from_json(json.loads(extra["student.json"]))
    assert (inside.classes, inside.preparation) == (("a", "b", "c"), record_of(program).preparation)
    student = load_student(tiny)
    for images in (1, 5):
        x = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(images))
        torch.testing.assert_close(network(x), student(x), rtol=0, atol=1e-5)


def test_a_program_of_torch_export_needs_neither_codistill_nor_the_networks_code(tiny, program, pictures, tmp_path):
    files = sorted((pictures / "test").rglob("*.png"))
    answers = classified(program, "student.pt2", files, tmp_path)
    agrees(answers, tiny, pictures)


def test_the_card_of_codistills_own_network_says_what_it_needs(tiny, tmp_path):
    card = (export_student(tiny, tmp_path / "out") / "README.md").read_text()
    assert "The weights need the network's code: codistill, which defines resnet8_tiny" in card
    assert "`codistill export --format onnx` or `--format torch-export` needs none." in card
    assert "| seed | 0 (one run; another seed gives another number) |" in card


def test_a_student_of_another_format_teaches_others_if_it_has_weights(tiny, program, tmp_path):
    facts = record_of(export_student(tiny, tmp_path / "hub", format="hub"))
    config = Config(method="kd", teachers=(str(tmp_path / "hub"),))
    (teacher,) = teaching.load_teachers(config, facts)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(teacher.eval()(x), load_student(tiny)(x))
    config = dataclasses.replace(config, teachers=(str(program),))
    assert "export it with --format safetensors too" in refusal(lambda: teaching.load_teachers(config, facts))


REQUESTS = [
    ({"format": "onxx"}, "unknown export format 'onxx': did you mean 'onnx'?"),
    (
        {"precision": "int8"},
        "precision int8 with format safetensors: choose --precision float32 or float16, or --format onnx.",
    ),
    ({"precision": "float64"}, "precision float64 with format safetensors: choose --precision float32 or float16."),
    ({"with_preprocessing": True}, "with_preprocessing has no effect here: leave it out, or choose --format onnx."),
    ({"calibration": 8}, "calibration has no effect here: leave it out, or choose --precision int8."),
    ({"license": "mit"}, "license has no effect here: leave it out, or choose --format hub."),
    ({"push": "me/net"}, "push has no effect here: leave it out, or choose --format hub."),
    ({"format": "hub", "push": "net"}, "push 'net': name the repository as OWNER/NAME."),
    ({"format": "onnx", "precision": "int8", "calibration": 0}, "calibration 0: it must be 1 image or more."),
]


@pytest.mark.parametrize(("fields", "message"), REQUESTS, ids=lambda value: str(value)[:40])
def test_what_cannot_be_written_is_refused_in_a_sentence(tiny, tmp_path, fields, message):
    assert refusal(lambda: export_student(tiny, tmp_path / "out", **fields)) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(tiny, tmp_path, monkeypatch, package):
    found = __import__("importlib.util").util.find_spec
    there = {"onnx", "onnxscript", "onnxruntime"} - {package}
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: object() if name in there else None if name == package else found(name, *rest),
    )
    said = refusal(lambda: export_student(tiny, tmp_path / "out", format="onnx"))
    assert said == f"{package} is not installed: pip install 'codistill[onnx]'."


def test_an_unfinished_run_has_no_leader_yet(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert "so its leader is not known" in refusal(lambda: export_student(tmp_path / "run"))
    card = (export_student(tmp_path / "run", peer=0) / "README.md").read_text()
    assert "The run was not finished when this was exported" in card


class Forked(nn.Module):
    """A network that no tracer can follow: it looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, images):
        x = images.flatten(1)
        return self.fc(x) if float(x.sum()) > 0 else self.fc(-x)


def test_a_network_that_cannot_be_traced_is_told_in_a_sentence(digits, quick, tmp_path):
    config = dataclasses.replace(
        quick, method="ind", model="own", peers=1, epochs=1, executor="loop", out=tmp_path / "run"
    )
    train(config, dataset=digits, network=Forked())
    said = refusal(lambda: export_student(tmp_path / "run", format="torch-export", network=Forked()))
    assert said.startswith("own cannot be exported as torch-export (")
    assert not (tmp_path / "run" / "export").exists()
