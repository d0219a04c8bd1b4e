"""The chart of the page: time of a step against devices, one panel per group and kind of batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from on_meshes.forecast import Row

__all__ = ["draw"]

LINES = {
    "peers": ("students on devices of their own", "#0b5fa5", "-"),
    "data": ("all students on every device", "#c1440e", "-"),
    "plain": ("the same, without exchange of outputs", "#c1440e", ":"),
}


def draw(panels: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Write an SVG: title -> rows, two panels in a line."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(len(panels) // 2, 2, sharex=True, sharey=True, squeeze=False)
    for axis, (title, found) in zip(axes.flat, panels.items(), strict=True):
        for name, (label, colour, style) in LINES.items():
            points = [(row.devices, 1e3 * seconds) for row in found if (seconds := getattr(row, name)) is not None]
            # The dotted line would hide the one below it, and is drawn on top.
            axis.plot(*zip(*points, strict=True), style, color=colour, label=label, marker="o" if style == "-" else "")
        axis.set(xscale="log", yscale="log", title=title)
        axis.set_xticks([row.devices for row in found][::2], [f"{row.devices:,}" for row in found][::2])
        axis.minorticks_off()
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    least, most = axes.flat[0].get_ylim()
    ticks = [digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if least < tick < most]
    axes.flat[0].set_yticks(shown, [f"{tick:,g}" for tick in shown])
    for axis in axes[-1]:
        axis.set_xlabel("devices")
    for axis in axes[:, 0]:
        axis.set_ylabel("step, ms")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, metadata={"Date": None})
