"""A run directory with any file changed in any way gives a report or one sentence; and records are read back."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from odd_values import examples, made, odd, result_or_sentence

from codistill import reports
from codistill.printable import json_text
from codistill.rundir import Epoch, InputRecord, Manifest, Moves, StudentRecord, Summary

FILES = ("config.yaml", "summary.json", "input.json", "metrics.jsonl")


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    """A copy of a finished run, without its weights."""
    folder = tmp_path_factory.mktemp("random") / "run"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("checkpoints", "report.html"))
    return folder


@pytest.fixture(scope="module")
def contents(run):
    return {name: (run / name).read_bytes() for name in FILES}


def report_or_sentence(run):
    found = result_or_sentence(reports.find_runs, [run])
    if found is not None:
        assert len(found) == 1
        reports.compare(found)


def places(value, path=()):
    """Every path in nested data."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def edited(data, draw):
    """Nested data with an entry deleted, doubled or replaced."""
    path = draw(st.sampled_from(list(places(data))))
    if not path:
        return draw(odd)
    *above, last = path
    holder = data
    for key in above:
        holder = holder[key]
    match draw(st.sampled_from(["delete", "double", "replace", "text", "wrap"])):
        case "delete":
            del holder[last]
        case "double" if isinstance(holder, list):
            holder.insert(last, holder[last])
        case "double":
            holder[f"{last}2"] = holder[last]
        case "replace":
            holder[last] = draw(odd)
        case "text":
            holder[last] = str(holder[last])
        case "wrap":
            holder[last] = [holder[last]]
    return data


def loaded(name, content):
    if name.endswith("yaml"):
        return yaml.safe_load(content)
    return [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)


def dumped(name, data):
    if name.endswith("yaml"):
        return yaml.safe_dump(data, allow_unicode=True)
    if name.endswith("l"):
        return "".join(json.dumps(line) + "\n" for line in data) if isinstance(data, list) else json.dumps(data)
    return json.dumps(data)


@examples(200)
@given(st.sampled_from(FILES), st.integers(1, 3), st.data())
def test_entries_that_are_deleted_doubled_or_of_another_type(run, contents, name, times, data):
    content = loaded(name, contents[name])
    for _ in range(times):
        content = edited(content, data.draw)
    try:
        (run / name).write_text(dumped(name, content), encoding="utf-8", errors="replace")
        report_or_sentence(run)
    finally:
        (run / name).write_bytes(contents[name])


@examples(200)
@given(st.sampled_from(FILES), st.data())
def test_files_that_are_cut_or_have_other_bytes_in_them(run, contents, name, data):
    content = contents[name]
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    inserted = data.draw(st.binary(max_size=8) | st.just(content[start:end]))
    try:
        (run / name).write_bytes(content[:start] + inserted + content[end:])
        report_or_sentence(run)
    finally:
        (run / name).write_bytes(content)


@pytest.mark.parametrize("kind", [Epoch, Summary, InputRecord, StudentRecord, Manifest, Moves])
@examples(10)
@given(st.data())
def test_records_are_read_back(kind, data):
    record = data.draw(made(kind))
    assert kind.from_json(json.loads(json_text(record.to_json()))) == record
