"""The HTML page: whole, self-contained, the same every time, and without sections that have nothing to show."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_runs import write_demo, write_run

from codistill.errors import UserError
from codistill.reports import find_runs, write_report

VOID = {"meta", "link", "br", "img"}


class Outline(HTMLParser):
    """Ids, tags and visible headings of a page; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def report(paths: list[Path], out: Path) -> str:
    return write_report(find_runs(paths), out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    return report([write_demo(folder / "runs")], folder / "report.html")


def test_the_demo_shows_every_section(demo: str) -> None:
    assert Outline(demo).headings == [
        "Results", "Test error", "Learning curves", "Diversity of the students", "Attention between peers",
        "Calibration of the leader", "Terms of the loss", "Every student", "Settings", "Where the numbers come from",
        "How to repeat the runs",
    ]  # fmt: skip


def test_the_page_needs_nothing_from_elsewhere(demo: str) -> None:
    page = Outline(demo)
    assert "script" not in page.tags
    assert "http" not in demo
    links = [value for name, value in page.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)", demo))


def test_ids_are_unique_and_references_lead_somewhere(demo: str) -> None:
    page = Outline(demo)
    assert len(page.ids) == len(set(page.ids))
    references = re.findall(r"url\(#([^)]*)\)", demo) + re.findall(r'href="#([^"]*)"', demo)
    references += [value for name, value in page.attributes if name == "aria-labelledby"]
    assert set(references) <= set(page.ids)


def test_pictures_take_their_colours_and_fonts_from_the_page(demo: str) -> None:
    pictures = re.findall(r"<svg (?!class).*?</svg>", demo, flags=re.S)
    assert len(pictures) == 2 + 2 + 2 + 2 + 7 + 5
    for picture in pictures:
        assert re.search(r'role="img" aria-label="[^"]{10,}"', picture)
        assert not re.findall(r"#[0-9a-f]{6}\b", picture)
        assert "font-family" not in picture
        assert "<style" not in picture
    used = set(re.findall(r"var\((--[a-z0-9-]+)", demo))
    light, dark = demo.split("@media (prefers-color-scheme: dark)")[:2]
    for name in used - {"--picture-text"}:
        assert f"{name}:" in light
        assert f"{name}:" in dark[: dark.index("* {")]


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "okddip, networks")
    assert report([folder], tmp_path / "a.html") == report([folder], tmp_path / "b.html")


def test_the_page_has_the_numbers_of_the_files(tmp_path: Path) -> None:
    for seed, error in enumerate((2.0, 3.0, 7.0)):
        write_run(tmp_path / f"r{seed}", "dml", seed, test_error=error)
        write_run(tmp_path / f"b{seed}", "baseline", seed, test_error=error + 1 + seed)
    text = Outline(report([tmp_path], tmp_path / "x.html")).text
    assert "4.00 ± 2.65" in text
    assert "−2.57 to 10.57" in text
    assert "1,150 training, 287 validation, 360 test" in text
    assert "No row differs from its baseline at p < 0.05 after Holm’s correction, paired by seed (1 tested)." in text
    assert "codistill train --config" in text


def test_a_row_that_differs_from_the_baseline_is_named_with_its_difference(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path / f"b{seed}", "baseline", seed, test_error=6.0)
        write_run(tmp_path / f"r{seed}", "dml", seed, test_error=5.0 + 0.02 * seed)
    assert "(1 of 1 tested): dml (−0.97 points)." in report([tmp_path], tmp_path / "x.html")


def test_two_seeds_support_no_finding(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"b{seed}", "baseline", seed, test_error=6.0)
        write_run(tmp_path / f"r{seed}", "dml", seed, test_error=5.0 + 0.001 * seed)
    text = report([tmp_path], tmp_path / "x.html")
    assert "Different from" not in text
    assert "Fewer than 3 finished seeds" in text


def test_a_baseline_alone_has_no_section_about_peers(tmp_path: Path) -> None:
    page = Outline(report([write_run(tmp_path / "r", "baseline")], tmp_path / "x.html"))
    assert page.headings == [
        "In short", "Errors by class", "How training went", "Cost",
        "Results", "Learning curves", "Calibration of the leader", "Every student", "Settings",
        "Where the numbers come from", "How to repeat the runs",
    ]  # fmt: skip


def test_a_method_without_attention_has_no_such_section(tmp_path: Path) -> None:
    page = Outline(report([write_run(tmp_path / "r", "dml")], tmp_path / "x.html"))
    assert "Diversity of the students" in page.headings
    assert "Attention between peers" not in page.headings


@pytest.mark.parametrize("name", ["weights", "gate"])
def test_how_much_each_student_counts_is_drawn_over_the_epochs(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "r", "dml")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for k, line in enumerate(lines):
        line["diagnostics"] = {name: [0.4 - 0.01 * k, 0.3, 0.2, 0.1 + 0.01 * k]}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = Outline(report([folder], tmp_path / "x.html"))
    assert "Weights of the students" in page.headings
    assert all(f"student {peer}" in page.text for peer in range(4))
    plain = Outline(report([write_run(tmp_path / "plain", "dml")], tmp_path / "y.html"))
    assert "Weights of the students" not in plain.headings


def test_an_unfinished_run_is_shown_as_such_with_its_curves(tmp_path: Path) -> None:
    page = Outline(report([write_run(tmp_path / "r", "dml", 3, epochs=9, done=2)], tmp_path / "x.html"))
    assert "This run is not finished: 2 of 9 epochs are done" in page.text
    assert "Learning curves" in page.headings
    assert "Every student" not in page.headings


def test_unfinished_runs_among_several_are_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "dml", 3, epochs=9, done=2)
    write_run(tmp_path / "b", "ind", 3, epochs=9)
    assert "dml, seed 3: 2 of 9 epochs" in Outline(report([tmp_path], tmp_path / "x.html")).text


def test_what_a_run_reported_as_wrong_is_in_a_box_above_the_results(tmp_path: Path) -> None:
    folder, other = write_run(tmp_path / "r", "dml", 3), write_run(tmp_path / "s", "dml", 4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["concerns"] = ["student 2 is far behind"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = Outline(report([folder, other], tmp_path / "x.html")).text
    assert text.index("Look at this.") < text.index("dml, seed 3, epoch 2: student 2 is far behind.")
    assert text.index("student 2 is far behind") < text.index("Results")
    plain = write_run(tmp_path / "plain", "dml", 3)
    assert "Look at this." not in report([plain, other], tmp_path / "y.html")


def test_a_run_before_its_first_epoch_still_gives_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "dml", done=1)
    (folder / "metrics.jsonl").write_text("")
    assert "0 of 6 epochs" in report([folder], tmp_path / "x.html")


def test_a_diverged_run_still_gives_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "okddip, networks", epochs=2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["train"]["loss_by_peer"] = [float("nan")] * 4
    lines[1]["train"]["parts"]["ce"] = float("inf")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "Training loss" in report([folder], tmp_path / "x.html")


def test_errors_of_zero_are_drawn(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"r{seed}", "baseline", seed, test_error=0.0)
    assert "0.00 ± 0.00" in report([tmp_path], tmp_path / "x.html")


def test_data_sets_have_their_own_tables_and_ids(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / data, data=data) for data in ("digits", "glyphs")]
    page = Outline(report(paths, tmp_path / "x.html"))
    assert page.headings.count("Results") == 2
    assert len(page.ids) == len(set(page.ids))


def test_whatever_stands_in_the_files_is_text_on_the_page(tmp_path: Path) -> None:
    evil = '<img src="x" onerror=alert(1)>&amp;$x$'
    folder = write_run(
        tmp_path / "a<b>&", evil, data=evil, models=(evil,), config={evil: evil}, versions={evil: evil},
        leader={"peer": 3, "rule": evil}, group=evil,
    )  # fmt: skip
    write_run(tmp_path / "other", "dml", data=evil)
    text = write_report(find_runs([folder, tmp_path / "other"]), tmp_path / "x.html", title=evil).read_text()
    page = Outline(text)
    assert page.tags["img"] == 0
    assert "<img" not in text
    assert evil in page.text


def test_dollar_signs_in_a_label_are_no_mathematics(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), "dml $a_b$", seed) for seed in range(2)]
    assert ">dml $a_b$</text>" in report(paths, tmp_path / "x.html")


def test_letters_that_matplotlib_has_no_font_for_do_not_warn(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / str(seed), "蒸馏", seed) for seed in range(2)]
    assert "蒸馏" in report(paths, tmp_path / "x.html")


def test_settings_that_differ_are_marked_and_the_others_are_not(tmp_path: Path) -> None:
    for label in ("ind", "dml", "kdcl_minlogit + ICL"):
        write_run(tmp_path / label, label)
    marked = re.findall(r"<mark>(.*?)</mark>", report([tmp_path], tmp_path / "x.html"))
    assert marked == ["true"]


def test_folders_are_made_and_nothing_else_is_left_there(tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep" / "report.html"
    assert write_report(find_runs([write_run(tmp_path / "r")]), out) == out
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = find_runs([write_run(tmp_path / "r")])
    out = tmp_path / "o" / "report.html"
    out.parent.mkdir()
    out.write_text("earlier")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): .*; give another file"):
        write_report(runs, out)
    assert [(path.name, path.read_text()) for path in out.parent.iterdir()] == [("report.html", "earlier")]


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder: the report is one file; give a name such as .*report.html"):
        write_report(find_runs([write_run(tmp_path / "r")]), tmp_path)
