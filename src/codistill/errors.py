"""The one exception for a user's mistake, and the "did you mean" that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = ["RunFailedError", "UserError", "add_note", "check_rules", "notes_of", "one_line", "unknown"]


class UserError(ValueError):
    """A mistake that the user can correct; the message gives the value, the rule and the remedy in one sentence.

    The command line prints only the message and exits with code 2. Any other exception is a fault of ours and keeps
    its traceback.
    """

    exit_code: ClassVar[int] = 2


class RunFailedError(UserError):
    """A run that had begun cannot go on, since it diverged or the disk is full, say; the command line exits with 1.

    What was saved before is kept.
    """

    exit_code = 1


def add_note(error: BaseException, text: str) -> None:
    """Add a line that a traceback shows below the error (from Python 3.11 on), and `notes_of` returns."""
    error.__dict__.setdefault("__notes__", []).append(text)


def notes_of(error: BaseException) -> tuple[str, ...]:
    """Return the lines that `add_note` added."""
    return tuple(error.__dict__.get("__notes__", ()))


def one_line(error: BaseException) -> str:
    """Return the message of another library's exception on one line, to quote within a sentence."""
    return " ".join(str(error).split())


def unknown(kind: str, value: str, known: Iterable[str], remedy: str | None = None) -> UserError:
    """Return the error for a name that is not in `known`; it suggests the nearest known names.

    Args:
        kind: what the name refers to ("method", "model", "option of dml").
        value: the name that the user gave.
        known: all valid names.
        remedy: what to do if no name is near; lists the known names by default.
    """
    names = sorted(known)
    near = difflib.get_close_matches(value.lower(), names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    else:
        hint = remedy or f"choose one of: {', '.join(names) or '(none)'}."
    return UserError(f"unknown {kind} {value!r}: {hint}")


def check_rules(*rules: tuple[str, object, bool, str]) -> None:
    """Raise UserError for the first rule (name, value, whether it holds, what the value must be) that does not hold."""
    for name, value, holds, rule in rules:
        if not holds:
            raise UserError(f"{name} {value}: it must be {rule}.")
