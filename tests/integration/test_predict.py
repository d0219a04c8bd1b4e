"""`codistill predict` and `codistill.predict`: any student, any pictures, in order, and one sentence for a mistake."""

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import codistill
from codistill.export import export_student
from codistill.students import find_pictures, open_student
from codistill.training import Config, OptimConfig, train
from refusals import refusal, refused, run
from wide_pictures import CLASSES, write_wide


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a finished run, and exports."""
    place = tmp_path_factory.mktemp("predict")
    write_wide(place / "data" / "train", 16)
    write_wide(place / "data" / "test", 4, seed=1)
    config = Config(
        method="dml", model=("resnet8_tiny",), peers=2, data="image_folder", data_dir=place / "data", image_size=32,
        epochs=3, batch_size=8, device="cpu", threads=1, executor="loop", workers=0, out=place / "run",
        optim=OptimConfig(lr=0.1),
    )  # fmt: skip
    train(config)
    for form in ("safetensors", "torch-export", "hub"):
        export_student(place / "run", place / form, format=form)
    return place


def test_the_classes_are_those_that_codistill_measured(place, capsys):
    measured = json.loads((place / "run" / "summary.json").read_text())["last"]["test"]["leader"]["top1_error"]
    assert run("predict", place / "run", place / "data" / "test", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    wrong = [one for one in found["predictions"] if one["classes"][0] != Path(one["picture"]).parent.name]
    assert measured == 0
    assert wrong == []
    assert [one["picture"] for one in found["predictions"]] == [
        str(place / "data" / "test" / name / f"{number:02d}.png") for name in CLASSES for number in range(4)
    ]
    assert (found["version"], found["classes"], found["unreadable"]) == (1, list(CLASSES), [])
    for one in found["predictions"]:
        assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert one["probabilities"] == sorted(one["probabilities"], reverse=True)


@pytest.mark.parametrize("form", ["safetensors", "torch-export", "hub"])
def test_an_export_says_what_the_run_says(place, form):
    pictures = place / "data" / "test"
    expected = codistill.predict(place / "run", pictures)
    found = codistill.predict(place / form, pictures)
    assert [one.picture for one in found] == [one.picture for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert dict(zip(one.classes, one.probabilities, strict=True)) == pytest.approx(
            dict(zip(other.classes, other.probabilities, strict=True)), abs=1e-6
        )


def test_a_file_of_the_export_stands_for_its_folder(place):
    picture = place / "data" / "test" / "bee" / "00.png"
    for file in ("safetensors/student.safetensors", "torch-export/student.pt2", "hub/model.safetensors"):
        (one,) = codistill.predict(place / file, picture)
        assert one.classes[0] == "bee"


def test_another_student_and_checkpoint_of_a_run_can_be_asked_for(place):
    picture = place / "data" / "test" / "bee" / "00.png"
    both = [codistill.predict(open_student(place / "run", peer=peer), picture)[0].probabilities for peer in (0, "1")]
    assert both[0] != both[1]
    assert run("predict", place / "run", picture, "--peer", "0", "--checkpoint", "selected") == 0
    assert "peer and checkpoint are for run directories" in refusal(lambda: open_student(place / "hub", peer=1))
    assert "students 0 to 1" in refusal(lambda: open_student(place / "run", peer=2))


def test_neither_batches_nor_threads_change_the_order(place):
    student, pictures = open_student(place / "run"), place / "data" / "test"
    expected = codistill.predict(student, pictures)
    for batch_size, threads in ((1, 1), (5, 4), (64, 1)):
        seen = []
        found = codistill.predict(
            student, pictures, batch_size=batch_size, threads=threads, watch=lambda *done, seen=seen: seen.append(done)
        )
        assert [(one.picture, one.classes) for one in found] == [(one.picture, one.classes) for one in expected]
        assert seen[-1] == (12, 12)
        assert len(seen) == -(-12 // batch_size)


def test_pictures_come_as_paths_files_and_open_pictures(place):
    path = place / "data" / "test" / "cow" / "01.png"
    student = open_student(place / "run")
    with path.open("rb") as file, Image.open(path) as opened:
        found = codistill.predict(student, [path, str(path), file, opened], top=1)
    assert [one.picture for one in found] == [str(path), str(path), "picture 2", "picture 3"]
    assert {one.classes for one in found} == {("cow",)}
    assert len({one.probabilities for one in found}) == 1
    assert "give a path, a file object or a PIL image" in refusal(lambda: codistill.predict(student, np.zeros((3, 3))))
    assert "there are no images" in refusal(lambda: codistill.predict(student, []))


def test_a_folder_gives_its_pictures_with_those_of_its_subfolders(tmp_path):
    for name in ("b/z.PNG", "a.jpg", "b/.hidden.png", ".git/x.png", "notes.txt", "b/raw.heic.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    files, notes = find_pictures([tmp_path])
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["a.jpg", "b/z.PNG"]
    assert notes[0] == "files left out: 2 .txt"
    assert "links that lead back" in notes[1]
    assert find_pictures([tmp_path / "notes.txt"]) == ([tmp_path / "notes.txt"], [])


@pytest.fixture
def mixed(place, tmp_path):
    """Two good pictures, and three files that are none."""
    for number in (1, 4):
        shutil.copy(place / "data" / "test" / "ant" / f"0{number % 4}.png", tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    (tmp_path / "3.jpg").write_text("no picture")
    (tmp_path / "5.png").write_bytes(b"")
    return tmp_path


def test_files_that_cannot_be_read_are_named_and_passed_over(place, mixed, capsys):
    assert run("predict", place / "run", mixed, "--csv") == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [Path(row["picture"]).name for row in rows] == ["1.png", "4.png"]
    assert [row["class_1"] for row in rows] == ["ant", "ant"]
    assert float(rows[0]["probability_1"]) > 0.5
    lines = printed.err.splitlines()
    assert len(lines) == 4
    assert all(
        f"{name} cannot be read (" in line for name, line in zip(("2.png", "3.jpg", "5.png"), lines, strict=False)
    )
    assert lines[-1] == "3 of 5 pictures cannot be read and are passed over"
    assert run("predict", place / "run", mixed, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(one["picture"]).name for one in found["unreadable"]] == ["2.png", "3.jpg", "5.png"]
    found = codistill.predict(place / "run", [mixed / "3.jpg", mixed / "1.png"])
    assert (found[0].classes, found[0].error) == ((), "cannot identify image file")
    assert (found[1].classes[0], found[1].error) == ("ant", None)


def test_nothing_but_files_that_cannot_be_read_is_refused(place, mixed, capsys):
    assert "3.jpg cannot be read as a picture (" in refused(capsys, "predict", place / "run", mixed / "3.jpg")
    (mixed / "1.png").unlink()
    (mixed / "4.png").unlink()
    assert "none of the 3 pictures can be read" in refused(capsys, "predict", place / "run", mixed)


def test_a_name_that_is_not_utf8_is_shown_as_far_as_it_can_be(place, tmp_path, capsys):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        shutil.copy(place / "data" / "test" / "ant" / "00.png", name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert run("predict", place / "run", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["picture"].endswith(r"/caf\xe9.png")


def test_the_table_shows_the_best_class_and_those_that_come_next(place, capsys):
    assert run("predict", place / "run", place / "data" / "test" / "ant", "--top", "2") == 0
    printed = capsys.readouterr()
    assert printed.out.count(" ant ") == 4
    assert "cow" in printed.out or "bee" in printed.out
    assert printed.err == ""


def test_the_result_goes_to_a_file(place, tmp_path, capsys):
    picture = place / "data" / "test" / "ant" / "00.png"
    assert run("predict", place / "run", picture, "--out", tmp_path / "new" / "a.csv") == 0
    assert "predictions: " in capsys.readouterr().out
    assert (tmp_path / "new" / "a.csv").read_text().startswith("picture,class_1,probability_1,class_2,")
    assert run("predict", place / "run", picture, "--json", "--out", tmp_path / "a.txt", "--top", "9") == 0
    assert len(json.loads((tmp_path / "a.txt").read_text())["predictions"][0]["classes"]) == 3
    capsys.readouterr()
    for wrong, says in (
        (["--out", tmp_path], "is a folder"),
        (["--out", tmp_path / "a"], "name the file .csv or .json"),
        (["--json", "--csv"], "choose one"),
        (["--top", "0"], "top 0: it must be 1 or more"),
        (["--batch-size", "0"], "batch_size 0"),
        (["--device", "nowhere"], "device 'nowhere' is not there"),
        (["--out", tmp_path / "a.txt" / "b.csv"], "cannot be written"),
    ):
        assert says in refused(capsys, "predict", place / "run", picture, *wrong)


def test_paths_that_lead_nowhere_are_refused(place, tmp_path, capsys):
    picture = place / "data" / "test" / "ant" / "00.png"
    assert "there is no such file or folder" in refused(capsys, "predict", place / "run", tmp_path / "none.png")
    assert "there is no such file or folder" in refused(capsys, "predict", tmp_path / "none", picture)
    assert "no pictures are given" in refused(capsys, "predict", place / "run")
    (tmp_path / "x.txt").write_text("x")
    assert "there is no picture in" in refused(capsys, "predict", place / "run", tmp_path)
    assert "it holds 1 .txt" in refused(capsys, "predict", place / "run", tmp_path)
    assert "holds no student" in refused(capsys, "predict", tmp_path, picture)
    assert "is no student" in refused(capsys, "predict", picture, picture)


@pytest.mark.parametrize(
    ("form", "break_it", "says"),
    [
        ("safetensors", lambda d: (d / "student.json").unlink(), "has no student.json"),
        ("hub", lambda d: (d / "student.json").unlink(), "has no student.json"),
        ("safetensors", lambda d: edit(d, version=9), "has format version 9"),
        ("safetensors", lambda d: edit(d, classes=["a", "b"]), "does not fit resnet8_tiny with the 2 classes"),
        ("safetensors", lambda d: edit(d, preparation=None), "does not say how pictures are prepared"),
        ("safetensors", lambda d: edit(d, model="resnet9_tinny"), "unknown model 'resnet9_tinny'"),
        ("safetensors", lambda d: edit(d, model="own"), "pass it as network= from Python"),
        ("safetensors", lambda d: cut(d / "student.json"), "student.json is damaged"),
        ("safetensors", lambda d: cut(d / "student.safetensors"), "student.safetensors cannot be read as weights"),
        ("safetensors", lambda d: spoil(d / "student.safetensors"), "numbers that are not finite"),
        ("torch-export", lambda d: cut(d / "student.pt2"), "student.pt2 cannot be read as a program"),
    ],
)
def test_a_student_that_is_not_whole_is_refused_by_what_is_wrong(place, tmp_path, capfd, form, break_it, says):
    shutil.copytree(place / form, tmp_path / "copy")
    break_it(tmp_path / "copy")
    error = refused(capfd, "predict", tmp_path / "copy", place / "data" / "test" / "ant" / "00.png")
    assert says in error


def edit(folder, **changes):
    record = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(record | changes))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil(file):
    tensors = load_file(file)
    save_file({**tensors, "fc.bias": torch.full_like(tensors["fc.bias"], torch.nan)}, file)


def test_an_onnx_file_needs_a_package_that_is_named(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "student.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = refused(capsys, "predict", tmp_path, place / "data" / "test")
    assert error == "codistill: error: onnxruntime is not installed: pip install 'codistill[onnx]'.\n"


@pytest.mark.parametrize("device", ["cpu:99", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_refused_for_every_kind_of_student(place, tmp_path, monkeypatch, capsys, device):
    (tmp_path / "student.onnx").write_bytes(b"x")
    runtime = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    for student in (place / "run", place / "safetensors", place / "torch-export", tmp_path):
        error = refused(capsys, "predict", student, place / "data" / "test", "--device", device)
        assert f"device '{device}' is not there" in error
    for score in ([], ["--data-dir", place / "data"]):
        assert f"device '{device}' is not there" in refused(
            capsys, "evaluate", place / "run", *score, "--device", device
        )


@pytest.mark.parametrize("number", [{"top": 1.5}, {"top": "3"}, {"batch_size": None}, {"threads": 2.0}])
def test_a_number_that_is_not_whole_is_refused(place, number):
    ((name, value),) = number.items()
    said = refusal(lambda: codistill.predict(place / "run", place / "data" / "test", **number))
    assert said == f"{name} {value!r}: it must be a whole number, 1 or more."
    assert len(codistill.predict(place / "run", place / "data" / "test", top=np.int64(2))[0].classes) == 2


@pytest.mark.parametrize("student", [5, None, b"run", ["run"]])
def test_what_is_no_path_is_no_student(place, student):
    says = f"student is a {type(student).__name__}: give the path of a run directory or an exported student."
    assert refusal(lambda: open_student(student)) == says
    assert refusal(lambda: codistill.predict(student, place / "data" / "test")) == says


def test_a_program_without_our_record_is_refused(place, tmp_path):
    program = torch.export.export(torch.nn.Flatten(), (torch.zeros(2, 3, 32, 32),))
    torch.export.save(program, tmp_path / "x.pt2")
    codistill.trust(tmp_path / "x.pt2")
    assert "does not name its classes" in refusal(lambda: open_student(tmp_path / "x.pt2"))


def forget_preparation(run_dir, **changes):
    """Leave the run as one of an older version."""
    record = json.loads((run_dir / "input.json").read_text())
    record.pop("preparation")
    (run_dir / "input.json").write_text(json.dumps(record | changes))


def test_the_preparation_of_an_older_run_is_derived_where_that_is_certain(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    forget_preparation(tmp_path / "run")
    with pytest.warns(UserWarning, match='does not say how pictures are prepared: .* "cover"'):
        student = open_student(tmp_path / "run")
    assert student.preparation == open_student(place / "run").preparation
    # Not known whether the pictures were too many to keep in memory.
    forget = json.loads((tmp_path / "run" / "input.json").read_text()) | {"data": None}
    (tmp_path / "run" / "input.json").write_text(json.dumps(forget))
    assert "the settings of the run (data image_folder) do not settle it" in refusal(
        lambda: open_student(tmp_path / "run")
    )
