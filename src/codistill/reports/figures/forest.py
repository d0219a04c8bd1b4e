"""Errors with confidence intervals, one row below the other, every seed as a dot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from codistill.printable import printable
from codistill.reports.comparison import Row
from codistill.reports.figures.pens import Pen
from codistill.reports.figures.svg import HALF, INK, MUTED, PAPER, RULE, canvas, inline, value_axis
from codistill.reports.numbers import mean_std
from codistill.reports.statistics import Estimate

__all__ = ["forest_figure"]

PITCH = 50.0
SEEDS_BELOW = 0.11
ENSEMBLE_BELOW = 0.3
LETTER, VALUE = 5.3, 100.0
"""Approximate width of a letter of a row's name, and of the error next to it."""


def forest_figure(rows: Sequence[Row], pens: dict[str, Pen], ident: str, label: str, width: float = HALF) -> str:
    """Draw headline and ensemble error of the rows that have finished seeds."""
    drawn = [row for row in rows if row.error]
    height = PITCH * len(drawn) + 50
    figure, axes = canvas(width, height, x="top-1 test error, %", left=6, top=6)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_yticks([])
    axes.set_ylim(len(drawn) - 0.36, -0.6)
    low, high = _range(drawn)
    axes.set_xlim(low, high)
    value_axis(axes.xaxis, 7)
    level = axes.get_yaxis_transform()
    for y, row in enumerate(drawn):
        assert row.error
        pen = pens[row.name]
        halo = {"facecolor": PAPER, "edgecolor": "none", "pad": 2.0}
        axes.text(
            0, y - 0.36, _fitting(row.name, width), transform=level, color=INK, fontsize=10, va="center", bbox=halo,
            parse_math=False,
        )  # fmt: skip
        axes.text(
            1, y - 0.36, f"{mean_std(row.error)} %", transform=level, color=MUTED, fontsize=10, va="center",
            ha="right", bbox=halo,
        )  # fmt: skip
        _interval(axes, y, row.error, pen, hollow=False)
        if row.ensemble:
            _interval(axes, y + ENSEMBLE_BELOW, row.ensemble, pen, hollow=True)
    for row in drawn:
        if row.is_baseline and row.error:
            axes.axvline(row.error.mean, color=MUTED, linewidth=0.8, dashes=(2, 3), zorder=0)
    return inline(figure, ident, label)


def _fitting(name: str, width: float) -> str:
    """Return the name, cut where it would run into the error; the key above has all of it."""
    name, room = printable(name), int((width - VALUE) / LETTER)
    return name if len(name) <= room else f"{name[: room - 1].rstrip()}…"


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits with every seed inside, and the intervals too unless the seeds could then not be distinguished."""
    estimates = [e for row in rows for e in (row.error, row.ensemble) if e]
    seeds = [value for e in estimates for value in e.values]
    least, most = min(seeds), max(seeds)
    span = max(most - least, 0.05 * most, 0.1)
    low = min([least, *(e.low for e in estimates if e.low is not None)])
    high = max([most, *(e.high for e in estimates if e.high is not None)])
    low, high = max(low, least - span, 0.0), min(high, most + span)
    if high - low < 0.1:
        low, high = max(least - 0.05, 0.0), most + 0.05
    margin = 0.04 * (high - low)
    return max(low - margin, 0.0 if least > margin else -margin), high + margin


def _interval(axes: Axes, y: float, estimate: Estimate, pen: Pen, hollow: bool) -> None:
    axes.plot(
        estimate.values, [y + SEEDS_BELOW] * estimate.n, linestyle="", marker="o", markersize=2.8,
        markerfacecolor=pen.colour, markeredgewidth=0, alpha=0.75, zorder=3,
    )  # fmt: skip
    if estimate.low is not None and estimate.high is not None:
        axes.plot(
            [estimate.low, estimate.high], [y, y], color=pen.colour, linewidth=1.0 if hollow else 1.8, zorder=2,
            solid_capstyle="butt",
        )  # fmt: skip
    axes.plot(
        [estimate.mean], [y], linestyle="", marker="D" if hollow else "o", markersize=5 if hollow else 6.5,
        markerfacecolor=PAPER if hollow else pen.colour, markeredgecolor=pen.colour, markeredgewidth=1.2, zorder=4,
    )  # fmt: skip
