"""A matrix as a picture, for loggers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["heat_map"]

MOST_NAMES = 20
"""Rows above which only their numbers are on the axes."""


def heat_map(rows: Sequence[Sequence[float]], names: Sequence[str], down: str, across: str) -> np.ndarray:
    """Return a picture of a square matrix, uint8 [H, W, 3].

    Args:
        rows: the matrix.
        names: of its rows, and of its columns.
        down: what the rows are.
        across: what the columns are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # late: loading it takes a moment
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.colorbar(axes.imshow(np.asarray(rows, dtype=float), cmap="viridis", vmin=0))
    axes.set(xlabel=across, ylabel=down)
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
