"""A quantity over epochs: one line per row, the mean over its seeds, with a band for their range."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codistill.reports.figures.pens import Pen
from codistill.reports.figures.svg import HALF, canvas, inline, log_axis, value_axis
from codistill.rundir import Epoch, Run

__all__ = ["Line", "curve_figure", "line_over_seeds"]

RATIO_FOR_LOG = 6.0


@dataclass(frozen=True)
class Line:
    """Mean, lowest and highest over seeds at each epoch."""

    pen: Pen
    epochs: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def line_over_seeds(runs: Sequence[Run], pen: Pen, pick: Callable[[Epoch], float | None]) -> Line | None:
    """Gather one quantity over the seeds that reached each epoch; None where no epoch of any run has it."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch in run.metrics:
            value = pick(epoch)
            if value is not None and math.isfinite(value):
                values.setdefault(epoch.epoch, []).append(value)
    if not values:
        return None
    epochs = sorted(values)
    of_each = [values[epoch] for epoch in epochs]
    mean, low, high = (np.array([f(v) for v in of_each]) for f in (np.mean, np.min, np.max))
    return Line(pen, np.array(epochs), mean, low, high)


def curve_figure(
    lines: Sequence[Line],
    ident: str,
    label: str,
    *,
    y: str,
    x: str = "epoch",
    from_zero: bool = True,
    width: float = HALF,
    height: float = 256.0,
) -> str:
    """Draw lines over epochs (or what `x` names); the axis is logarithmic where values span more than a factor of six.

    `from_zero`: whether an axis that is not logarithmic starts at 0; otherwise a little below the lowest value.
    """
    figure, axes = canvas(width, height, x=x, y=y)
    positive = np.concatenate([line.low[line.low > 0] for line in lines] or [np.array([])])
    # A logarithmic axis has no 0: an error of exactly 0 is drawn at half the smallest other one.
    floor = 0.5 * float(positive.min()) if len(positive) else 0.0
    highest = max(float(line.high.max()) for line in lines)
    logarithmic = floor > 0 and highest / (2 * floor) > RATIO_FOR_LOG
    for order, line in enumerate(lines):
        low, mean, high = (np.maximum(v, floor) if logarithmic else v for v in (line.low, line.mean, line.high))
        if not np.array_equal(low, high):
            axes.fill_between(line.epochs, low, high, color=line.pen.colour, alpha=0.13, linewidth=0)
        every = max(1, len(line.epochs) // 6)
        axes.plot(
            line.epochs, mean, color=line.pen.colour, linestyle=line.pen.linestyle, linewidth=1.4,
            marker=line.pen.marker, markersize=3.6, markeredgewidth=0,
            # Markers of different lines start at different epochs, so that they do not hide each other.
            markevery=(order * every // max(len(lines), 1), every),
        )  # fmt: skip
    last = max(int(line.epochs[-1]) for line in lines)
    axes.set_xlim(min(int(line.epochs[0]) for line in lines) - 0.4, last + 0.4)
    value_axis(axes.xaxis, 6 if width == HALF else 3, whole=True)
    if logarithmic:
        log_axis(axes)
    else:
        lowest = 0.0 if from_zero else min(float(line.low.min()) for line in lines)
        axes.set_ylim(
            lowest - (0 if from_zero else 0.08 * (highest - lowest)), highest + 0.08 * (highest - lowest) or 1.0
        )
        value_axis(axes.yaxis)
    return inline(figure, ident, label)
