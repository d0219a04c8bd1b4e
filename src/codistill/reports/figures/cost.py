"""Test error against seconds of training, one dot per row."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.reports.comparison import Row
from codistill.reports.figures.pens import Pen
from codistill.reports.figures.svg import HALF, RULE, canvas, inline, value_axis

__all__ = ["cost_figure"]


def cost_figure(rows: Sequence[Row], pens: dict[str, Pen], ident: str, label: str, width: float = HALF) -> str:
    """Draw mean error over mean training time, with bars of one standard deviation in both directions."""
    figure, axes = canvas(width, 300, x="training time of the whole group, s", y="top-1 test error, %")
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    for row in rows:
        if row.error and row.seconds:
            pen = pens[row.name]
            axes.errorbar(
                row.seconds.mean, row.error.mean, xerr=row.seconds.std, yerr=row.error.std, color=pen.colour,
                marker=pen.marker, markersize=7, markeredgewidth=0, elinewidth=1.0, linestyle="",
            )  # fmt: skip
    axes.set_xlim(left=0)
    axes.margins(0.1)
    value_axis(axes.xaxis, 6)
    value_axis(axes.yaxis)
    return inline(figure, ident, label)
