"""Sections that a page can have before its tables: notices, tables of other numbers, statements with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codistill.reports.details import Grid
from codistill.reports.picture import Picture

__all__ = ["Preface", "Statement"]


@dataclass(frozen=True)
class Statement:
    """A sentence with its verdict; `kind` is "yes", "no" or "open"; `grid` holds the numbers behind the verdict."""

    text: str
    verdict: str
    kind: str
    summary: str
    grid: Grid


@dataclass(frozen=True)
class Preface:
    """One section before the tables; a `notice` is drawn in a box. Empty fields are left out."""

    title: str
    text: Sequence[str] = ()
    notice: bool = False
    grid: Grid | None = None
    pictures: Sequence[Picture] = ()
    statements: Sequence[Statement] = ()
    notes: Sequence[str] = ()
