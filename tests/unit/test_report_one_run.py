"""The page of a single run: the verdict first, errors by class, mistakes, how training went, and what it cost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import INPUT, write_run
from test_report_page import Outline, report

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def matrix(classes: int, right: int = 18, wrong: int = 2) -> list[list[int]]:
    """Every class is taken for the next one `wrong` times."""
    rows = [[0] * classes for _ in range(classes)]
    for c, row in enumerate(rows):
        row[c], row[(c + 1) % classes] = right, wrong
    return rows


def single(tmp_path: Path, classes: int = 3, label: str = "okddip, networks", **test: Any) -> Path:
    folder = write_run(tmp_path / "run of mine", label)
    record = json.loads((folder / "summary.json").read_text())
    record["classes"] = [f"kind {c}" for c in range(classes)]
    record["last"]["test"] |= {"images": 20 * classes, "confusion": matrix(classes), **test}
    record["last"]["test"]["leader"] = {**record["last"]["test"]["leader"], "top1_error": 10.0, "balanced_error": 12.5}
    record["last"]["validation"]["leader"] = {**record["last"]["validation"]["leader"], "top1_error": 9.0}
    record["multiply_accumulates"] = {"training": 12_000_000, "deployed": 3_000_000}
    (folder / "summary.json").write_text(json.dumps(record))
    return folder


def shown(folder: Path) -> str:
    page = report([folder], folder.parent / "x.html")
    assert len(page.encode()) < 300_000
    return re.sub(r"\s+", " ", Outline(page).text)


def test_the_verdict_comes_first_with_the_error_of_the_student_to_deploy(tmp_path: Path) -> None:
    text = shown(single(tmp_path))
    assert text.index("In short") < text.index("Errors by class") < text.index("How training went")
    assert text.index("How training went") < text.index("Results")
    assert "The student to deploy (student 3, group leader) has 10.00 % test error on 60 images." in text
    # Wilson's interval for 6 of 60.
    assert "it would be 4.7 to 20.1 % (95 % interval)" in text
    assert "Always naming the most frequent class would give 66.67 %." in text
    assert "Its validation error is 9.00 %." in text
    assert "Nothing looked wrong while it trained." in text
    assert "codistill export '" in text


def test_folder_and_run_are_in_the_title(tmp_path: Path) -> None:
    page = report([single(tmp_path)], tmp_path / "x.html")
    assert "<title>run of mine: okddip, networks on digits</title>" in page


def test_a_test_error_far_above_the_validation_error_is_pointed_out(tmp_path: Path) -> None:
    assert "which is more than chance" not in shown(single(tmp_path))
    folder = single(tmp_path / "other", images=20_000)
    record = json.loads((folder / "summary.json").read_text())
    record["last"]["validation"]["images"] = 2000
    record["last"]["validation"]["leader"]["top1_error"] = 5.0
    (folder / "summary.json").write_text(json.dumps(record))
    assert "The test error is 5.0 points above the validation error, which is more than chance" in shown(folder)


def test_what_looked_wrong_is_in_the_verdict(tmp_path: Path) -> None:
    folder = single(tmp_path)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[2]["concerns"] = ["the cat is on the keyboard"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = shown(folder)
    assert text.index("Epoch 3: the cat is on the keyboard.") < text.index("Errors by class")
    assert "Nothing looked wrong" not in text


def test_few_classes_show_the_whole_matrix_and_the_errors_of_each(tmp_path: Path) -> None:
    folder = single(tmp_path)
    images = {
        "per_class": {"training": [7, 8, 9]}, "duplicates": {"counts": {}, "compared": "bytes"}, "sizes": [],
        "channels": 1, "skipped": {}, "notes": [],
    }  # fmt: skip
    (folder / "input.json").write_text(json.dumps({**INPUT, "images": images}))
    page = report([folder], tmp_path / "x.html")
    table = page[page.index('<table class="confusion">') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 4
    assert len(re.findall(r'<td class="r8">18</td>', table)) == 3
    assert len(re.findall(r'<td class="w1">2</td>', table)) == 3
    assert table.count("<td></td>") == 3
    text = re.sub(r"\s+", " ", Outline(page).text)
    assert "The mean of the classes' errors is 12.50 %." in text
    assert "kind 0 kind 1 (2) 10.0 2 20 7 90.0" in text


def test_how_often_a_named_class_is_right_counts_what_was_taken_for_it(tmp_path: Path) -> None:
    folder = single(tmp_path, confusion=[[18, 2, 0], [0, 20, 0], [0, 6, 14]])
    # Kind 1 is right in 20 of the 28 cases in which it is named, and so is kind 2 in all of its 14.
    text = shown(folder)
    assert "kind 1 – 0.0 0 20 71.4" in text
    assert "kind 2 kind 1 (6) 30.0 6 20 100.0" in text


def test_many_classes_show_the_worst_and_the_pairs_confused_most(tmp_path: Path) -> None:
    page = report([single(tmp_path, classes=31)], tmp_path / "x.html")
    assert '<table class="confusion">' not in page
    text = re.sub(r"\s+", " ", Outline(page).text)
    assert "Of 31 classes, the 20 with the highest error are listed." in text
    assert "Confused most often True class Taken for Images Of the class, % kind 0 kind 1 2 10.0" in text
    assert '<table class="confusion">' in report([single(tmp_path / "a", classes=30)], tmp_path / "y.html")


def test_runs_without_a_matrix_say_why(tmp_path: Path) -> None:
    assert "an older version of codistill trained it" in shown(single(tmp_path, confusion=None))
    many = single(tmp_path / "many", classes=101, confusion=None)
    assert "there are too many classes to count them all" in shown(many)


def mistake(**changes: Any) -> dict[str, Any]:
    one = {"index": 41, "name": None, "truth": 0, "predicted": 2, "confidence": 0.987, "picture": PIXEL}
    return {**one, **changes}


def test_the_most_confident_mistakes_are_shown_as_pictures(tmp_path: Path) -> None:
    folder = single(tmp_path)
    images = [mistake(), mistake(name="/photos/test/kind 1/IMG_7.jpg", truth=1)]
    (folder / "mistakes.json").write_text(json.dumps({"version": 1, "images": images}))
    page = report([folder], tmp_path / "x.html")
    assert page.count(f'<img src="{PIXEL}" alt="">') == 2
    text = re.sub(r"\s+", " ", Outline(page).text)
    assert "kind 2, 99 %label: kind 0test image 41" in text
    assert "label: kind 1kind 1/IMG_7.jpg" in text
    # Without an image there is nothing wrong to show; without the file there is no such section.
    (folder / "mistakes.json").write_text(json.dumps({"version": 1, "images": []}))
    assert "makes no mistake on the test images" in shown(folder)
    (folder / "mistakes.json").unlink()
    assert "The most confident mistakes" not in shown(folder)


def test_a_picture_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    folder = single(tmp_path)
    images = [mistake(picture="https://example.org/x.png")]
    (folder / "mistakes.json").write_text(json.dumps({"version": 1, "images": images}))
    with pytest.raises(ValueError, match=r"images\.0\.picture is neither a PNG nor a JPEG"):
        report([folder], tmp_path / "x.html")


def test_the_cost_is_told_as_a_multiple_of_the_network_alone(tmp_path: Path) -> None:
    text = shown(single(tmp_path))
    assert "78,042 parameters and takes 3.0 M multiply-accumulates per image" in text
    assert "with 4.0 times the multiply-accumulates of the network alone" in text


def test_next_to_a_baseline_training_time_is_told_as_its_multiple(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"b{seed}", "baseline", seed)
        write_run(tmp_path / f"r{seed}", "dml", seed)
    # 6 epochs of 0.5 s, 3.9 times that, and 0.3 s more for the second seed of each.
    assert f"{(3 * 3.9 + 0.15) / 3.15:.1f} × baseline" in report([tmp_path], tmp_path / "x.html")


def test_a_single_network_has_no_ensemble_and_no_students(tmp_path: Path) -> None:
    text = shown(single(tmp_path, label="baseline"))
    assert "The network has 10.00 % test error" in text
    assert "ensemble of all" not in text
    assert "times the multiply-accumulates" not in text


def test_several_runs_have_no_verdict_of_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "dml", 0)
    write_run(tmp_path / "b", "dml", 1)
    assert "In short" not in Outline(report([tmp_path], tmp_path / "x.html")).text


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    text = shown(write_run(tmp_path / "r", "dml", epochs=9, done=2))
    assert f"codistill resume {tmp_path / 'r'}" in text
    assert "% so far" in text
