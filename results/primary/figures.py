"""Figures of analyse.py: differences in test error to the network alone, a dot per seed, mean and 95 % interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codistill.reports.statistics import Estimate

BLUE, GREY, RULE = "#0b5fa5", "#6b6b6b", "#555555"
AXIS = "difference in test error to the network alone, points (left is better)"

mpl.rcParams.update({"svg.hashsalt": "codistill", "font.family": ["DejaVu Sans"]})  # the same figure is the same file


def rows(axes: Axes, gaps: Mapping[str, Estimate], colour: str = BLUE, start: int = 0) -> None:
    """Draw one row for each name, downwards from `start`: seeds, mean, and interval where there are three or more."""
    for height, gap in enumerate(gaps.values(), start):
        axes.plot(gap.values, [height + 0.25] * gap.n, "o", ms=3, color=colour, alpha=0.45, mew=0)
        if gap.n > 2:
            axes.plot([gap.low, gap.high], [height, height], color=colour, lw=1.8, solid_capstyle="round")
        axes.plot([gap.mean], [height], "o", ms=5.5, color=colour)


def frame(axes: Axes, names: Sequence[str], margin: float | None) -> None:
    """Draw zero, the margin of equivalence as a band, and the names of the rows."""
    if margin:
        axes.axvspan(-margin, margin, color="#e4e4e4", lw=0, zorder=0)
    axes.axvline(0, color=RULE, lw=1, zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def first(named: Mapping[str, Estimate], others: Mapping[str, Estimate], margin: float, path: Path) -> None:
    """The named comparisons, and below them in grey what else a user would try for the same money."""
    names = [*named, *others]
    figure = Figure(figsize=(7.2, 0.75 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    rows(axes, named)
    rows(axes, others, GREY, len(named))
    frame(axes, names, margin)
    axes.set_xlabel(AXIS)
    save(figure, path)


def panels(stages: Mapping[str, Mapping[str, Estimate]], margin: float | None, path: Path) -> None:
    """One panel for each title, below each other on one scale."""
    heights = [len(gaps) + 1 for gaps in stages.values()]
    figure = Figure(figsize=(7.2, 0.6 + 0.34 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(stages), 1, squeeze=False, sharex=True, height_ratios=heights)
    _fill(figure, grid.flat, stages, margin)
    save(figure, path)


def beside(stages: Mapping[str, Mapping[str, Estimate]], path: Path) -> None:
    """One panel for each title, beside each other; all have the same rows."""
    figure = Figure(figsize=(7.2, 1.0 + 0.36 * max(map(len, stages.values()))), layout="constrained")
    grid = figure.subplots(1, len(stages), squeeze=False, sharex=True, sharey=True)
    _fill(figure, grid.flat, stages, None)
    save(figure, path)


def _fill(
    figure: Figure, grid: Iterable[Axes], stages: Mapping[str, Mapping[str, Estimate]], margin: float | None
) -> None:
    for axes, (title, gaps) in zip(grid, stages.items(), strict=True):
        rows(axes, gaps)
        frame(axes, list(gaps), margin)
        axes.set_title(title, fontsize=10, loc="left")
    figure.supxlabel(AXIS, fontsize=10)


def save(figure: Figure, path: Path) -> None:
    """Write an SVG without a date, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
