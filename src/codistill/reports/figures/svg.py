"""Matplotlib figures as inline SVG that takes its colours and fonts from the page around it.

They are drawn in stand-in colours, which are then replaced by CSS values, so that one picture serves light and dark.
Text stays text, in the page's font. Sizes are in units of 1/72 inch, which the page scales with the picture's width.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from codistill.printable import printable

__all__ = ["HALF", "INK", "MUTED", "PAPER", "RULE", "SMALL", "canvas", "inline", "log_axis", "value_axis"]

HALF, SMALL = 380.0, 184.0
"""Widths of a picture that takes half the page and of one that takes a quarter, with the same text size."""

INK, MUTED, RULE, PAPER = "#000001", "#000002", "#000003", "#000004"
NAMED = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}
SERIES = re.compile(r"#0000([1-9a-f])([0-9a-f])")
NAMESPACE = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
TOP, BOTTOM, LEFT, RIGHT = 22.0, 32.0, 32.0, 10.0
TEXT = 10.0
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "codistill",
    "axes.unicode_minus": True,
}


def canvas(
    width: float, height: float, *, x: str = "", y: str = "", left: float = LEFT, top: float = TOP
) -> tuple[Figure, Axes]:
    """Return a figure of the given size with one plain pair of axes; `y` is written horizontally above the axis."""
    figure = Figure(figsize=(width / 72, height / 72))
    bottom = BOTTOM if x else BOTTOM - 14
    box = (left / width, bottom / height, (width - left - RIGHT) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, linewidth=0.8)
    axes.tick_params(colors=MUTED, labelsize=TEXT, length=0, pad=5)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    if x:
        axes.set_xlabel(x, color=MUTED, fontsize=TEXT, labelpad=3)
    if y:
        figure.text(2 / width, 1 - 9 / height, y, color=MUTED, fontsize=TEXT, va="center", ha="left")
    return figure, axes


def value_axis(axis: Axis, most: int = 5, whole: bool = False) -> None:
    """Put few, round numbers at an axis."""
    axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def log_axis(axes: Axes) -> None:
    """Make the y axis logarithmic with plain numbers (0.5, 1, 2, 5)."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(LogLocator(subs=()))


def inline(figure: Figure, ident: str, label: str) -> str:
    """Return the figure as one `<svg>` element for an HTML page.

    Args:
        figure: drawn with this module's stand-in colours.
        ident: unique in the page; the prefix of every id in the picture.
        label: description for readers who cannot see the picture.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The browser sets the text: that matplotlib's own font lacks a user's letters does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True)
    root = ET.fromstring(buffer.getvalue())
    _remove(root, {"metadata", "style"})
    _make_ids_unique(root, ident)
    for element in root.iter():
        element.tag = element.tag.removeprefix(NAMESPACE)
        if style := element.get("style"):
            element.set("style", _page_style(style))
        if path := element.get("d"):
            element.set("d", _shorter(path))
    view = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": printable(label)})
    return ET.tostring(root, encoding="unicode")


def _remove(root: ET.Element, tags: set[str]) -> None:
    # The style that matplotlib writes would apply to the whole page; its metadata has the date.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(NAMESPACE) in tags:
                parent.remove(child)


def _make_ids_unique(root: ET.Element, ident: str) -> None:
    used = set()
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == XLINK_HREF:
                used.add(value[1:])
                element.attrib.pop(name)
                element.set("href", f"#{ident}-{value[1:]}")
            elif found := re.fullmatch(r"url\(#(.+)\)", value):
                used.add(found[1])
                element.set(name, f"url(#{ident}-{found[1]})")
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{ident}-{own}")


def _page_style(style: str) -> str:
    kept = [part.strip() for part in style.split(";") if not part.strip().startswith("font-family")]
    # The page may set the size of ordinary text: on a phone pictures shrink, but text should not.
    text = "; ".join(kept).replace(f"font-size: {TEXT:g}px", f"font-size: var(--picture-text, {TEXT:g}px)")
    for stand_in, value in NAMED.items():
        text = text.replace(stand_in, value)
    return SERIES.sub(lambda found: f"var(--series-{int(found[1] + found[2], 16) - 16})", text)


def _shorter(path: str) -> str:
    """Round coordinates to a hundredth of a unit: half the bytes, and no difference to the eye."""
    return " ".join(re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), path).split())
