"""One kind of bad input, and what it is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spoiling import Spoiled

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """One line of docs/bad-input.md.

    Attributes:
        given: a command, or an expression of Python.
        says: the sentence, with paths below the current folder; "…" stands for what differs from machine to machine.
        first: what is done before.
        code: the exit code of the command; of Python, `exit_code` of the error.
        leaves: files and folders that may be new, changed or gone afterwards; all others are as they were.
    """

    given: str
    says: str
    first: Sequence[Spoiled] = ()
    code: int = 2
    leaves: tuple[str, ...] = ()

    @property
    def is_command(self) -> bool:
        """Whether it is given on the command line."""
        return self.given.split()[0] == "codistill"

    @property
    def words(self) -> str:
        """What is done before, in words."""
        return "; ".join(spoiled.words for spoiled in self.first)
