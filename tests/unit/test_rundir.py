"""The records of a run directory are read back as they were written, and its files are whole or not there."""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import re
import shutil
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import INPUT, write_run

import codistill.rundir
from codistill.errors import UserError
from codistill.rundir import (
    Bins,
    Epoch,
    InputRecord,
    Preparation,
    Record,
    RecordError,
    Summary,
    append_epoch,
    keep_epochs,
    last_epoch,
    read_epochs,
    read_json,
    read_record,
    read_run,
    step_folder,
    write_json,
    write_whole,
)
from codistill.rundir.summary import KIND

KINDS = (Epoch, Summary, InputRecord)


def random_value(hint: Any, draw: random.Random) -> Any:
    """A value of a field's type, as a writer would make it."""
    if hint in (float, int, str, bool, Any):
        made = {float: draw.uniform(-1e3, 1e3), int: draw.randrange(10**9), str: f"é{draw.random()}", bool: True}
        return made.get(hint, ((0.25, 0.75), (draw.random(), 1.0)))
    if typing.get_origin(hint) is tuple:
        return tuple(random_value(typing.get_args(hint)[0], draw) for _ in range(draw.randrange(1, 4)))
    if typing.get_origin(hint) is Mapping:
        return {f"name {i}": random_value(typing.get_args(hint)[1], draw) for i in range(draw.randrange(3))}
    if not isinstance(hint, type):
        kind = next(argument for argument in typing.get_args(hint) if argument is not type(None))
        return draw.choice([None, random_value(kind, draw)])
    return random_record(hint, draw)


def random_record(kind: type[Record], draw: random.Random) -> Record:
    hints = typing.get_type_hints(kind)
    values = {field.name: random_value(hints[field.name], draw) for field in fields(kind)}
    fixed = {"version": 1, "kind": KIND, "headline": draw.choice(["leader", "mean"])}
    values |= {name: value for name, value in fixed.items() if name in values}
    if kind is Bins:
        values = {name: tuple(values[name][0] for _ in range(4)) for name in values}
    if kind is Preparation:
        values |= {"channels": 1, "resize": draw.choice(["cover", "squash", "none"]), "interpolation": "bilinear"}
        values |= {name: values[name][:1] for name in ("mean", "std")}
        values |= {name: draw.randint(1, 4096) for name in ("height", "width")}
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_reading_is_the_exact_inverse_of_writing(kind: type[Record], seed: int) -> None:
    record = random_record(kind, random.Random(seed))
    plain = record.to_json()
    assert kind.from_json(json.loads(json.dumps(plain))) == record
    assert json.loads(json.dumps(kind.from_json(plain).to_json())) == plain
    assert list(plain) == [field.name for field in fields(kind)]


def documented() -> dict[str, list[str]]:
    """File -> the names of its record's entries, in the order in which docs/run-directory.md has them."""
    text = (Path(__file__).parents[2] / "docs" / "run-directory.md").read_text(encoding="utf-8")
    _, *blocks = text.split("\n## ")
    found = {}
    for block in blocks:
        heading, _, rest = block.partition("\n")
        top, depth, names = rest.split("```")[1], 0, []
        for piece in pieces_of(top):
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(piece, 0)
            if depth == 1 and piece.endswith(":"):
                names.append(piece.strip('":'))
            if depth == 0 and names:
                break
        found[heading.strip()] = names
    return found


def pieces_of(text: str) -> list[str]:
    """Brackets and quoted names before a colon, without the comments of the documentation."""
    return re.findall(r'"[a-z0-9_]+":|[\[\]{}]', re.sub(r"(?<=\S) {5,}.*", "", text))


@pytest.mark.parametrize(("file", "kind"), [("metrics.jsonl", Epoch), ("summary.json", Summary)])
def test_the_fields_are_those_of_the_documentation_in_its_order(file: str, kind: type[Record]) -> None:
    names = [field.name for field in fields(kind)]
    assert documented()[file] == ([*names, "sha256"] if kind.SEALED else names)


def test_an_evaluation_has_the_fields_of_the_documentation_in_its_order() -> None:
    hints = typing.get_type_hints(Epoch)
    assert documented()["Evaluation record"] == [field.name for field in fields(hints["validation"])]


def test_entries_of_a_later_version_are_ignored_and_those_an_older_one_lacks_have_defaults(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", epochs=1)
    record = json.loads((folder / "summary.json").read_text())
    summary = Summary.from_json(record | {"later": 1})
    assert (summary.concerns, summary.executor, summary.last.test.ensemble_own) == ((), None, None)
    assert read_epochs(folder, complete=True)[0].concerns == ()
    assert InputRecord.from_json(INPUT).data is None


def test_whole_numbers_and_numbers_are_not_mixed_up() -> None:
    assert Bins.from_json({"count": [2.0], "confidence": [1], "accuracy": [None]}) == Bins(
        count=(2,), confidence=(1.0,), accuracy=(None,)
    )
    for wrong in (1.5, True, "1", None):
        with pytest.raises(RecordError, match=r"^count\.0 is .*, not a whole number$"):
            Bins.from_json({"count": [wrong], "confidence": [1.0], "accuracy": [1.0]})
    for wrong in (True, "1"):
        with pytest.raises(RecordError, match=r"^confidence\.0 is .*, not a number$"):
            Bins.from_json({"count": [1], "confidence": [wrong], "accuracy": [1.0]})
    with pytest.raises(RecordError, match="lists of different lengths"):
        Bins(count=(1,), confidence=(), accuracy=(1.0,))


def epoch_with(diagnostics: dict[str, Any], folder: Path) -> Epoch:
    line = json.loads((write_run(folder, epochs=1) / "metrics.jsonl").read_text())
    return Epoch.from_json(line | {"diagnostics": diagnostics})


def test_attention_and_shares_are_taken_from_the_diagnostics_where_they_have_the_right_shape(tmp_path: Path) -> None:
    good = epoch_with({"attention": [[0.5, 0.5], [1, 0]], "gate": [0.25, 0.75]}, tmp_path / "a")
    assert (good.attention, good.shares) == (((0.5, 0.5), (1, 0)), (0.25, 0.75))
    assert dataclasses.replace(good, diagnostics={"attention": [[0.5, 0.5], [1, 0]], "gate": [0.25, 0.75]}) == good
    # A method of the user's own may give other things by these names.
    other = epoch_with({"attention": [[0.5, 0.5]], "weights": [[1.0]], "scale": 2.0}, tmp_path / "b")
    assert (other.attention, other.shares, other.diagnostics["scale"]) == (None, None, 2.0)
    assert epoch_with({"attention": 3.0, "weights": 1.0}, tmp_path / "c").attention is None


def test_epochs_are_appended_cut_and_read_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", done=3)
    assert last_epoch(tmp_path) is None
    epochs = read_epochs(folder, complete=False)
    assert last_epoch(folder) == epochs[2]
    keep_epochs(folder, 1)
    assert last_epoch(folder) == epochs[0]
    append_epoch(folder, epochs[1])
    assert read_epochs(folder, complete=True) == epochs[:2]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"version": 1, "ep')
    assert last_epoch(folder) == epochs[1]
    keep_epochs(folder, 0)
    assert last_epoch(folder) is None
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_resumed_run_leaves_out_damaged_epochs_and_says_which(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    path = folder / "metrics.jsonl"
    first, second, third = path.read_bytes().split(b"\n")[:3]
    for broken in (second[:100], b"\xde" + second, second.replace(b'"epoch"', b'"epocj"')):
        path.write_bytes(b"\n".join([first, broken, third, b""]))
        with pytest.warns(UserWarning, match=r"metrics.jsonl is damaged: the figures of epoch 2 are lost"):
            keep_epochs(folder, 3)
        assert [epoch.epoch for epoch in read_epochs(folder, complete=False)] == [1, 3]
    path.unlink()
    with pytest.warns(UserWarning, match="lacks epochs that are done: the figures of epoch 1, 2 are lost"):
        keep_epochs(folder, 2)


def test_results_that_have_changed_are_refused_and_other_files_are_named(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    read_run(folder)
    (folder / "mistakes.json").unlink()
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text().replace("workers: null", "workers: 1"))
    with pytest.warns(UserWarning, match=r"config.yaml has changed, mistakes.json is missing since the run ended"):
        read_run(folder)
    summary = folder / "summary.json"
    summary.write_text(summary.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"summary.json is damaged \(its SHA-256 differs\)"):
        read_run(folder)


def test_the_folder_of_an_epoch_has_four_digits() -> None:
    assert (step_folder(12), step_folder(12345)) == ("epoch_0012", "epoch_12345")
    assert step_folder(12, 340) == "epoch_0012_step_000340"


def test_a_record_is_written_whole_and_read_by_its_kind(tmp_path: Path) -> None:
    record = InputRecord.from_json(INPUT)
    write_json(tmp_path / "input.json", record.to_json())
    assert read_record(tmp_path / "input.json", InputRecord) == record
    assert read_json(tmp_path / "input.json") == INPUT | {"data": None, "images": None, "preparation": None}
    assert [path.name for path in tmp_path.iterdir()] == ["input.json"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_whole(path, "earlier")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "later")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("summary.json", "earlier")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "input.json is damaged (Expecting property name"),
        ("[1]", "input.json is damaged (it holds no record)"),
        ("{}", "input.json is damaged (version is missing)"),
        ('{"version": 2}', "input.json has format version 2, and this codistill reads versions up to 1: install"),
        ('{"version": "1"}', "input.json has format version 1, and this codistill reads"),
        ('{"version": 1}', "input.json is damaged (channels is missing)"),
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "input.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_record(tmp_path / "input.json", InputRecord)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no summary\.json in .*: give a folder that 'codistill train' wrote"):
        read_record(tmp_path / "summary.json", Summary)


def test_no_record_waits_for_torch() -> None:
    for path in Path(codistill.rundir.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not name.startswith(("torch", "numpy")), path
            allowed = ("codistill.rundir", "codistill.errors", "codistill.printable")
            assert not name.startswith("codistill.") or name.startswith(allowed), path
