"""Runs one case in the current folder, in this process."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from case import Case
from places import names_for

from codistill.cli import main
from codistill.errors import UserError

__all__ = ["Outcome", "pattern", "run"]


class Outcome(NamedTuple):
    """What a case gave: the exit code, what went to the standard error, and the files that are new, changed or gone."""

    code: object
    error: str
    touched: list[str]


def run(case: Case) -> Outcome:
    """Spoil what the case says, give the command or the line of Python, and look at what came of it."""
    error = io.StringIO()
    with ExitStack() as stack:
        for spoiled in case.first:
            spoiled.act(stack)
        before = _files()
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(error))
        code = _commanded(case.given) if case.is_command else _evaluated(case.given, error)
    after = _files()
    touched = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Outcome(code, error.getvalue().replace(f"{Path.cwd()}/", ""), touched)


def pattern(says: str) -> re.Pattern[str]:
    """What a sentence of the table matches: "…" stands for anything on its line."""
    return re.compile(".*".join(re.escape(part) for part in says.split("…")))


def _commanded(given: str) -> object:
    try:
        main(shlex.split(given)[1:])
    except SystemExit as stop:
        return stop.code
    return 0


def _evaluated(given: str, error: io.StringIO) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            eval(given, names_for())
    except UserError as refusal:
        error.write(f"codistill: error: {refusal}\n")
        return refusal.exit_code
    return 0


def _files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"}
