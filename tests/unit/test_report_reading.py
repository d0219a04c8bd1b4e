"""Run directories are read as they are, and every fault in one is a sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_runs import INPUT, write_demo, write_run

from codistill.errors import UserError
from codistill.reports import find_runs, read_run
from codistill.reports.settings import images_of


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", "okddip, networks", 2, epochs=5, test_error=3.0))
    assert (run.label, run.method, run.models, run.data, run.seed) == (
        "okddip, networks", "okddip", ("resnet8",), "digits", 2,
    )  # fmt: skip
    assert [epoch.epoch for epoch in run.metrics] == [1, 2, 3, 4, 5]
    assert run.metrics[-1].attention is not None
    assert run.metrics[-1].attention[0] == pytest.approx((0.44, 0.3, 0.26))
    assert run.finished
    assert run.summary is not None
    assert run.summary.last.test.mean.top1_error == 3.0
    assert run.summary.last.test.leader == run.summary.last.test.peers[3]
    assert run.summary.selected.epoch == 3
    assert run.config["optim"]["lr"] == 0.1


def test_an_unfinished_run_is_known_by_its_settings(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", "dml", 4, epochs=9, done=2))
    assert not run.finished
    assert (run.label, run.method, run.models, run.data, run.seed, run.peers, run.epochs_done) == (
        "dml", "dml", ("resnet8",), "digits", 4, 4, 2,
    )  # fmt: skip


def test_an_unfinished_run_without_a_label_goes_by_its_method(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "r", "ind", done=1, config={"label": None})).label == "ind"


def test_the_loss_of_a_student_is_the_mean_over_the_group(tmp_path: Path) -> None:
    epoch = read_run(write_run(tmp_path / "r", "dml")).metrics[0]
    assert epoch.loss_per_student == pytest.approx(epoch.train.loss / 4)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run: a run directory has config.yaml .* give a directory"):
        read_run(tmp_path)


def test_a_damaged_line_is_named_with_its_number(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[2] = lines[2][:50]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"metrics.jsonl, line 3, is damaged .*: it must hold .*; restore"):
        read_run(folder)


def test_a_record_without_a_required_entry_is_damaged_and_says_which(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    record = json.loads((folder / "summary.json").read_text())
    del record["last"]["test"]["ensemble"]
    (folder / "summary.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"summary.json is damaged \(last.test.ensemble is missing\)"):
        read_run(folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "other"}, r"\(kind is 'other', not 'codistill-run'\)"),
        ({"headline": "best"}, r"\(headline is 'best', neither 'leader' nor 'mean'\)"),
        ({"peers": "many"}, r"\(peers is 'many', not a whole number\)"),
        ({"classes": {}}, r"\(classes is {}, not a list\)"),
        ({"icl": 1}, r"\(icl is 1, not true or false\)"),
        ({"seeds": {"run": True}}, r"\(seeds.run is True, not a whole number\)"),
    ],
)
def test_a_summary_of_something_else_is_refused(tmp_path: Path, change: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_run(write_run(tmp_path / "r", **change))


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        ("train", {"loss": 1.0, "loss_by_peer": [], "parts": {}, "error_by_peer": []}, "train.loss_by_peer is empty"),
        ("train", {"loss": 1.0, "loss_by_peer": ["a"]}, r"train.loss_by_peer.0 is 'a', not a number"),
        ("validation", [], r"validation is \[\], not a record"),
    ],
)
def test_an_epoch_that_cannot_be_drawn_is_damaged(tmp_path: Path, where: str, value: dict, why: str) -> None:
    folder = write_run(tmp_path / "r", "okddip, networks", epochs=1)
    line = json.loads((folder / "metrics.jsonl").read_text()) | {where: value}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=rf"line 1, is damaged \({why}\)"):
        read_run(folder)


def test_input_json_is_read_and_damage_in_it_is_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    assert read_run(folder).input is None
    assert images_of(read_run(folder)) == {"data_dir": "null"}
    (folder / "input.json").write_text(json.dumps(INPUT))
    assert images_of(read_run(folder)) == {"data_dir": "null"}
    data = {"training_images": 9, "test_images": 4, "labels_sha256": "0123456789"}
    (folder / "input.json").write_text(json.dumps(INPUT | {"data": data}))
    assert images_of(read_run(folder)) == {"classes": "2", "images": "9 + 4", "labels": "01234567"}
    (folder / "input.json").write_text(json.dumps(INPUT | {"data": {}}))
    with pytest.raises(UserError, match=r"input.json is damaged \(data.training_images is missing\)"):
        read_run(folder)


def test_settings_that_are_no_yaml_are_damaged(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    (folder / "config.yaml").write_text("method: [dml\n")
    with pytest.raises(UserError, match=r"config.yaml is damaged"):
        read_run(folder)


@pytest.mark.parametrize("file", ["config.yaml", "input.json", "metrics.jsonl", "summary.json"])
def test_a_newer_format_is_refused_in_every_file(tmp_path: Path, file: str) -> None:
    (write_run(tmp_path / "r") / "input.json").write_text('{"version": 1}')
    path = tmp_path / "r" / file
    path.write_text(path.read_text().replace("version: 1", "version: 2", 1).replace('"version": 1', '"version": 2', 1))
    with pytest.raises(UserError, match=rf"{file} has format version 2, .* up to 1: install a newer codistill"):
        read_run(path.parent)


def test_the_line_being_written_is_left_out_of_an_unfinished_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", done=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"version": 1, "epoch": 4, "tr')
    assert read_run(folder).epochs_done == 3


def test_a_cut_last_line_of_a_finished_run_is_damage(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"version": 1, "ep')
    with pytest.raises(UserError, match="line 7, is damaged"):
        read_run(folder)


def test_of_an_epoch_that_was_run_twice_the_later_line_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", epochs=3)
    again = json.loads((folder / "metrics.jsonl").read_text().splitlines()[1]) | {"lr": 0.025}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    assert [(epoch.epoch, epoch.lr) for epoch in read_run(folder).metrics] == [(1, 0.1), (2, 0.025), (3, 0.1)]


def test_runs_are_found_below_folders_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for seed in (10, 2):
        write_run(tmp_path / "study" / f"seed{seed}", seed=seed)
    alone = write_run(tmp_path / "alone", "ind")
    found = find_runs([tmp_path / "study", alone, tmp_path / "study" / "seed2"])
    assert [run.directory.name for run in found] == ["seed2", "seed10", "alone"]


def test_what_lies_inside_a_run_is_not_searched(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r")
    write_run(folder / "checkpoints" / "copy")
    assert len(find_runs([tmp_path])) == 1


def test_a_path_without_runs_is_refused_by_name(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", seeds=1, epochs=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no run in it or below it: a run is .*; give a directory"):
        find_runs([tmp_path / "demo", tmp_path / "empty"])
    with pytest.raises(UserError, match=r"nowhere is not a folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no path given"):
        find_runs([])
