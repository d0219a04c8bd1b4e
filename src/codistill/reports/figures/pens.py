"""How each row is drawn, in every picture the same: colour, dash and marker, so that colour is never the only clue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codistill.reports.comparison import Row

__all__ = ["COLOURS", "Pen", "pens_for", "plain_pens"]

COLOURS = 7
"""Colours in addition to series 0, the neutral one; the page's style sheet gives their values for light and dark."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 1.5, 1.5, 1.5))


@dataclass(frozen=True)
class Pen:
    """One line's look; `dash` in units of the line's picture, empty for a solid line."""

    series: int
    dash: tuple[float, ...]
    marker: str

    @property
    def colour(self) -> str:
        """The stand-in colour for matplotlib (see svg.py)."""
        return f"#0000{self.series + 16:02x}"

    @property
    def linestyle(self) -> str | tuple[float, tuple[float, ...]]:
        """The dash as matplotlib takes it."""
        return (0, self.dash) if self.dash else "-"


def plain_pens(count: int, first: int = 0) -> list[Pen]:
    """Return `count` pens with different colours; beyond seven, colours repeat with another dash."""
    return [
        Pen(1 + i % COLOURS, DASHES[i // COLOURS % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(first, count)
    ]


def pens_for(rows: Sequence[Row]) -> dict[str, Pen]:
    """Return a pen for every row by its name: neutral for baselines, a colour of its own for each other row."""
    baselines = [row.name for row in rows if row.is_baseline]
    others = [row.name for row in rows if not row.is_baseline]
    pens = {name: Pen(0, DASHES[(i + 1) % len(DASHES)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(baselines)}
    return pens | dict(zip(others, plain_pens(len(others)), strict=True))
