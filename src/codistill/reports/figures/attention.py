"""The attention matrix as a heat map with its numbers."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from codistill.reports.figures.svg import INK, SMALL, canvas, inline
from codistill.rundir import Run

__all__ = ["attention_figure", "last_attention"]

TINT = "#000011"
MOST_NUMBERS = 7


def last_attention(runs: tuple[Run, ...]) -> NDArray[np.float64] | None:
    """Return the [A, A] matrix of each run's last epoch, averaged over runs; None where there is none."""
    found = [np.array(run.metrics[-1].attention) for run in runs if run.metrics and run.metrics[-1].attention]
    same = [matrix for matrix in found if matrix.shape == found[0].shape and matrix.ndim == 2]
    return np.mean(same, axis=0) if same else None


def attention_figure(matrix: NDArray[np.float64], ident: str, label: str) -> str:
    """Draw [A, A] weights: row = the peer that learns, column = the peer it learns from; deeper colour, more weight."""
    size = len(matrix)
    # Top and bottom margins are chosen so that the cells come out square.
    figure, axes = canvas(SMALL, SMALL + 6, x="learns from", y="peer", left=22, top=26)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    largest = float(matrix.max()) or 1.0
    for (row, column), weight in np.ndenumerate(matrix):
        tint = 0.06 + 0.6 * weight / largest
        axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=TINT, alpha=tint, linewidth=0))
        if size <= MOST_NUMBERS:
            text = f"{weight:.2f}".removeprefix("0") if size > 4 else f"{weight:.2f}"
            axes.text(column, row, text, ha="center", va="center_baseline", color=INK, fontsize=10 if size < 6 else 8)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    ticks = range(0, size, 1 if size <= 12 else 5)
    axes.set_xticks(list(ticks), [str(t) for t in ticks])
    axes.set_yticks(list(ticks), [str(t) for t in ticks])
    return inline(figure, ident, label)
