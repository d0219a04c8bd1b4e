"""Sections that a page can have before its tables: notices, tables of other numbers, statements with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codistill.reports.details import Grid
from codistill.reports.picture import Picture

if TYPE_CHECKING:
    from codistill.reports.figures.key import KeyEntry

__all__ = ["Confusion", "ConfusionCell", "Preface", "Statement", "Thumbnail"]


@dataclass(frozen=True)
class Statement:
    """A sentence with its verdict; `kind` is "yes", "no" or "open"; `grid` holds the numbers behind the verdict."""

    text: str
    verdict: str
    kind: str
    summary: str
    grid: Grid


@dataclass(frozen=True)
class ConfusionCell:
    """Images of one class that were taken for another; `level` (0 to 9) is how dark the cell is."""

    text: str
    level: int
    right: bool


@dataclass(frozen=True)
class Confusion:
    """The matrix of confusions: a row per true class, a column per class that was named."""

    classes: Sequence[str]
    rows: list[list[ConfusionCell]]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture (data URI) with what stands below it."""

    picture: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Preface:
    """One section before the tables; a `notice` is drawn in a box. Empty fields are left out.

    `more` is a second table, which is folded, and `more_title` its name. `commands` come last. `uneven`: the first
    picture is twice as wide as the others.
    """

    title: str
    text: Sequence[str] = ()
    notice: bool = False
    grid: Grid | None = None
    pictures: Sequence[Picture] = ()
    statements: Sequence[Statement] = ()
    notes: Sequence[str] = ()
    key: Sequence[KeyEntry] = ()
    confusion: Confusion | None = None
    thumbnails: Sequence[Thumbnail] = ()
    more: Grid | None = None
    more_title: str = ""
    commands: Sequence[str] = ()
    uneven: bool = False
