"""Differences, and how the tables of analyse.py show them."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.reports.numbers import interval, number
from codistill.reports.statistics import Estimate, paired


def gap(values: list[float], others: list[float]) -> Estimate:
    """The differences, seed by seed."""
    return paired(values, others).difference


def gap_cell(found: Estimate, digits: int = 2) -> str:
    """A difference with its interval, for a table."""
    return f"{number(found.mean, digits, sign=True)} ({interval(found, digits)})"


def seeds_cell(found: Estimate) -> str:
    """A difference with that on each seed, for a table."""
    return f"{number(found.mean, sign=True)} ({', '.join(number(value, sign=True) for value in found.values)})"


def head(titles: Sequence[str]) -> str:
    """The first two lines of a table: the first column has words, the others numbers."""
    return f"\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}"
