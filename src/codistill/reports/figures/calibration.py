"""Reliability diagrams: is a prediction made with 80 % confidence right in 80 % of cases?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codistill.reports.figures.pens import Pen
from codistill.reports.figures.svg import MUTED, SMALL, canvas, inline
from codistill.rundir import Bins

__all__ = ["pooled", "reliability_figure"]


def pooled(bins: Sequence[Bins]) -> NDArray[np.float64]:
    """Pool the bins of several seeds, weighted by their images: [bins with images, (count, confidence, accuracy)]."""
    total = np.zeros((len(bins[0].count), 3))
    for one in bins:
        count = np.array(one.count)
        for column, shares in enumerate((one.confidence, one.accuracy), 1):
            total[:, column] += count * np.array([0.0 if share is None else share for share in shares])
        total[:, 0] += count
    filled = total[total[:, 0] > 0]
    return np.column_stack([filled[:, 0], filled[:, 1:] / filled[:, :1]])


def reliability_figure(points: NDArray[np.float64], pen: Pen, ident: str, label: str) -> str:
    """Draw accuracy over confidence, one dot per bin with an area for its images, and the line to the diagonal."""
    figure, axes = canvas(SMALL, SMALL + 8, x="confidence, %", y="accuracy, %", left=28)
    count, confidence, accuracy = points[:, 0], 100 * points[:, 1], 100 * points[:, 2]
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, dashes=(2, 3))
    axes.vlines(confidence, confidence, accuracy, color=pen.colour, linewidth=1.2, alpha=0.6)
    area = 8 + 110 * count / count.sum()
    axes.scatter(confidence, accuracy, s=area, color=pen.colour, alpha=0.85, linewidths=0, clip_on=False, zorder=3)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    ticks = [0, 25, 50, 75, 100]
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    return inline(figure, ident, label)
