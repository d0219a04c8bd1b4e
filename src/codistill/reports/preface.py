"""What a page of runs may have before its tables: notices, tables of other numbers, statements that were judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codistill.reports.details import Grid
from codistill.reports.picture import Picture

__all__ = ["Front", "Statement"]


@dataclass(frozen=True)
class Statement:
    """A sentence with its verdict; `kind` is "yes", "no" or "open"; `grid` has what it rests on."""

    text: str
    verdict: str
    kind: str
    summary: str
    grid: Grid


@dataclass(frozen=True)
class Front:
    """One section; `notice` sets it apart. What is empty is left out."""

    title: str
    text: Sequence[str] = ()
    notice: bool = False
    grid: Grid | None = None
    pictures: Sequence[Picture] = ()
    statements: Sequence[Statement] = ()
    notes: Sequence[str] = ()
