"""Error over the size of the group, as in OKDDip's figure 3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codistill.reports.figures.curves import Line, curve_figure
from codistill.reports.figures.pens import plain_pens
from codistill.reports.picture import Picture
from codistill.studies.results import Number
from codistill.studies.study import Study

__all__ = ["group_size_picture"]


def group_size_picture(study: Study, found: Sequence[Number]) -> Picture | None:
    """Draw the numbers of a study whose columns are group sizes; None while fewer than two sizes have runs."""
    lines = []
    for row, pen in zip(study.rows, plain_pens(len(study.rows)), strict=True):
        done = [n for n in found if n.row == row and n.ours]
        if len(done) > 1:
            values = [np.array(list(n.values.values())) for n in done]
            mean, low, high = (np.array([f(v) for v in values]) for f in (np.mean, np.min, np.max))
            lines.append(Line(pen, np.array([int(n.column) for n in done]), mean, low, high))
    if not lines:
        return None
    values = "; ".join(f"{n.column} students {n.ours.mean:.2f} %" for n in found if n.ours)
    svg = curve_figure(
        lines, "group-sizes", f"Top-1 {study.metric} over the number of students: {values}",
        y=f"top-1 {study.metric}, %", x="students in the group", from_zero=False,
    )  # fmt: skip
    return Picture(
        "Size of the group", svg, "The line is the mean over seeds; the band goes from the lowest to the highest seed."
    )
