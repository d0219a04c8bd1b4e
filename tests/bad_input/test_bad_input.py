"""Bad input is answered as docs/bad-input.md says: one sentence, an exit code, and nothing else is touched."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
from cases import PARSER, SECTIONS
from places import make, place_into
from running import pattern, run

import codistill
from codistill import trusted

PAGE = Path(__file__).parents[2] / "docs" / "make_bad_input.py"
ALL = [case for cases in SECTIONS.values() for case in cases]
LEAST = 80
"""Kinds of bad input that the page has at least."""


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Runs, an export and pictures, which every case gets copies of."""
    folder = tmp_path_factory.mktemp("bad") / "source"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own folder to be in, with no code trusted but own.py, and warnings as at the start of the program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trusted, "_OURS", set())
    monkeypatch.setattr(trusted, "_FOREIGN", set())
    monkeypatch.setenv("CODISTILL_CONFIG", str(tmp_path.parent / f"{tmp_path.name}-settings"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        yield tmp_path


def prepared(place, source, case):
    place_into(place, source, f"{case.given} {case.words}")
    if (place / "own.py").is_file():
        codistill.trust(place / "own.py")


def shown(case):
    return f"{case.given}{f' | {case.words}' if case.first else ''}"[:100]


@pytest.mark.parametrize("case", ALL, ids=shown)
def test_bad_input_is_one_sentence_and_an_exit_code(case, place, source):
    prepared(place, source, case)
    outcome = run(case)
    *before, last = outcome.error.splitlines()
    assert last.startswith("codistill: error: ")
    assert pattern(case.says).fullmatch(last.removeprefix("codistill: error: ")), last
    assert outcome.code == case.code
    # Warnings may come first, of Python too.
    assert not any("error: " in line or "Traceback" in line for line in before)
    left = [name for name in outcome.touched if not name.startswith(case.leaves or "\0")]
    assert left == []


@pytest.mark.parametrize("case", PARSER, ids=shown)
def test_the_parser_names_what_it_refuses(case, place, source):
    prepared(place, source, case)
    outcome = run(case)
    text = " ".join(re.sub(r"-{5,}|[─│╭╮╰╯]+", " ", outcome.error).split())
    assert pattern(case.says).fullmatch(text), text
    assert outcome.code == case.code == 2
    assert "Traceback" not in text
    assert outcome.touched == []


def test_every_sentence_has_a_remedy_after_the_value_and_the_rule():
    # "value: rule; remedy" or "did you mean ...?": there is always something after what is wrong.
    for case in ALL:
        assert ": " in case.says, case.says
        assert case.says[0] != "…", case.says


def test_the_page_is_what_the_table_gives():
    spec = importlib.util.spec_from_file_location("make_bad_input", PAGE)
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    assert page.PAGE.read_text(encoding="utf-8") == page.written(), "run docs/make_bad_input.py"
    assert len(ALL) >= LEAST
    assert len({(case.given, case.words) for case in ALL}) == len(ALL)
