"""The one exception for a user's mistake, and the "did you mean" that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "one_line", "unknown"]


class UserError(ValueError):
    """Something that the user can put right; the message says the value, the rule and the remedy in one sentence.

    The command line prints the message alone and exits with code 2; any other exception is a fault of ours and keeps
    its traceback.
    """


def one_line(error: BaseException) -> str:
    """What another library's exception says, fit for the middle of a sentence."""
    return " ".join(str(error).split())


def unknown(kind: str, value: str, known: Iterable[str], remedy: str | None = None) -> UserError:
    """Return the error for a name that is not in `known`, with the nearest known names.

    Args:
        kind: what the name stands for ("method", "model", "option of dml").
        value: the name as the user gave it.
        known: all names that would have been right.
        remedy: what to do where no name is near; by default the known names are listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(value.lower(), names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
    else:
        hint = remedy or f"choose one of: {', '.join(names) or '(none)'}."
    return UserError(f"unknown {kind} {value!r}: {hint}")
