"""`codistill evaluate RUN --data-dir OTHER`: other labelled pictures, scored as the test part is."""

import dataclasses
import json
import shutil

import pytest
from interrupted_runs import Stop

import codistill
from codistill.cli import main
from codistill.students import evaluate_folder
from codistill.students.labelled import labelled_folder
from codistill.training import Config, OptimConfig, train
from codistill.training.evaluate import evaluate_run
from refusals import refusal
from wide_pictures import CLASSES, write_wide


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluate")
    write_wide(place / "data" / "train", 10)
    write_wide(place / "data" / "test", 5, seed=1)
    return place


@pytest.fixture(scope="module")
def config(place):
    return Config(
        method="dml", model=("resnet8_tiny",), peers=2, data="image_folder", data_dir=place / "data", image_size=32,
        epochs=2, batch_size=8, device="cpu", threads=1, executor="loop", workers=0, out=place / "run",
        optim=OptimConfig(lr=0.05),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config):
    return train(config).run_dir


def run(*arguments):
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def assert_same(found, expected):
    """Two records are the same, but for the last bits of sums: layouts in memory differ."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert_same(value, expected[name])
    elif isinstance(found, list):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found is expected is None or found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_test_folder_itself_gives_the_scores_of_the_test_part(place, finished):
    expected = evaluate_run(finished)
    for folder in (place / "data", place / "data" / "test"):
        found = evaluate_folder(finished, folder)
        assert_same(found.evaluation.to_json(), expected)
        assert found.classes == CLASSES
        assert found.unreadable == ()
    selected = evaluate_folder(finished, place / "data", checkpoint="selected").evaluation
    assert_same(selected.to_json(), evaluate_run(finished, checkpoint="selected"))


def test_a_part_is_found_by_its_name_and_what_is_not_read_is_said(place, finished):
    found = evaluate_folder(finished, place / "data")
    assert found.folder == place / "data" / "test"
    assert found.notes == (f"{place / 'data' / 'test'} is scored; folders beside it are not read: train",)
    assert evaluate_folder(finished, place / "data" / "test").notes == ()


def test_classes_may_be_missing_and_others_are_refused(place, finished, tmp_path):
    write_wide(tmp_path / "some" / "val", 4, classes=("cow", "bee"))
    (tmp_path / "some" / "val" / "cow" / "about.txt").write_text("cows")
    found = evaluate_folder(finished, tmp_path / "some")
    assert found.evaluation.images == 8
    assert found.notes == (
        f"1 of 3 classes have no pictures in {tmp_path / 'some' / 'val'}: ant",
        "files left out: 1 .txt",
    )
    matrix = found.evaluation.confusion
    assert matrix is not None
    assert [sum(row) for row in matrix] == [0, 4, 4]
    (tmp_path / "some" / "val" / "ant").mkdir()
    assert evaluate_folder(finished, tmp_path / "some").notes == found.notes
    (tmp_path / "some" / "val" / "wolf").mkdir()
    assert "no classes of the run, wolf: the run knows ant, bee, cow" in refusal(
        lambda: evaluate_folder(finished, tmp_path / "some")
    )


def test_a_class_called_test_is_a_class(tmp_path):
    for name in ("test", "other"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "x.png").write_bytes(b"")
    found = labelled_folder(tmp_path, ("other", "test"))
    assert found.folder == tmp_path
    assert found.labels == (0, 1)


def test_folders_without_pictures_are_refused(finished, tmp_path):
    assert "there is no such folder" in refusal(lambda: evaluate_folder(finished, tmp_path / "none"))
    assert "has no class folders" in refusal(lambda: evaluate_folder(finished, tmp_path))
    (tmp_path / "ant").mkdir()
    assert "hold no pictures" in refusal(lambda: evaluate_folder(finished, tmp_path))
    (tmp_path / "ant" / "x.png").write_text("x")
    assert "none of the 1 pictures" in refusal(lambda: evaluate_folder(finished, tmp_path))


def test_scores_confusions_and_the_page_are_for_people_and_programs(finished, tmp_path, capsys):
    write_wide(tmp_path / "other", 4, seed=2)
    for picture in sorted((tmp_path / "other" / "ant").iterdir()):
        shutil.copy(picture, tmp_path / "other" / "bee" / f"ant_{picture.name}")
    (tmp_path / "other" / "bee" / "bad.png").write_text("x")
    page = tmp_path / "new" / "page.html"
    assert run("evaluate", finished, "--data-dir", tmp_path / "other", "--json", "--report", page) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["classes"] == list(CLASSES)
    assert record["confusion"] == [[4, 0, 0], [4, 4, 0], [0, 0, 4]]
    assert record["leader"]["top1_error"] == pytest.approx(25)
    assert [one["picture"] for one in record["unreadable"]] == [str(tmp_path / "other" / "bee" / "bad.png")]
    assert "1 of 17 pictures cannot be read and are passed over" in printed.err
    text = page.read_text(encoding="utf-8")
    assert "Errors by class" in text
    assert "25.00 % error on the 16 pictures" in text
    assert "ant (4)" in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert run("evaluate", finished, "--data-dir", tmp_path / "other") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "bee 50.00 4 8" in words
    assert "true class taken for pictures" in words
    assert "bee ant 4" in words


def test_a_page_without_another_folder_is_refused(finished, tmp_path, capsys):
    assert run("evaluate", finished, "--report", tmp_path / "x.html") == 2
    assert "without --data-dir" in capsys.readouterr().err


def test_the_folder_has_no_say_in_which_student_leads_also_while_the_run_is_unfinished(config, place, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "run"), observers=[Stop()])
    leader = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["validation"]["leader_peer"]
    for checkpoint in ("last", "selected"):
        found = evaluate_folder(tmp_path / "run", place / "data", checkpoint=checkpoint).evaluation
        assert found.leader_peer == leader
        assert_same(found.to_json(), evaluate_run(tmp_path / "run", checkpoint=checkpoint))


def test_the_leader_of_an_unfinished_run_is_that_of_the_epoch_whose_weights_are_scored(config, place, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "run"), observers=[Stop()])
    lines = tmp_path / "run" / "metrics.jsonl"
    first, worse = json.loads(lines.read_text()), json.loads(lines.read_text())
    leader = first["validation"]["leader_peer"]
    worse["epoch"], worse["validation"]["leader_peer"] = 2, 1 - leader
    worse["validation"]["mean"]["top1_error"] += 1
    lines.write_text(f"{json.dumps(first)}\n{json.dumps(worse)}\n")
    found = {
        checkpoint: evaluate_folder(tmp_path / "run", place / "data", checkpoint=checkpoint).evaluation.leader_peer
        for checkpoint in ("last", "selected")
    }
    assert found == {"last": 1 - leader, "selected": leader}


def test_predictions_and_scores_count_the_same_errors(place, finished, tmp_path):
    write_wide(tmp_path / "other", 3, seed=5)
    for picture in sorted((tmp_path / "other" / "cow").iterdir()):
        picture.rename(tmp_path / "other" / "ant" / f"cow_{picture.name}")
    scores = evaluate_folder(finished, tmp_path / "other").evaluation
    found = codistill.predict(finished, tmp_path / "other")
    wrong = sum(f"/{one.classes[0]}/" not in one.picture for one in found)
    assert scores.leader.top1_error == pytest.approx(100 * wrong / len(found))
    assert wrong >= 3
