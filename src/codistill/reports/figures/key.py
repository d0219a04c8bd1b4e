"""The key to lines and markers: drawn in HTML above the pictures, where it wraps and never hides a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codistill.reports.figures.pens import Pen

__all__ = ["KeyEntry", "key_of", "swatch"]

SHAPES = {
    "o": "M14 2.6a3.4 3.4 0 1 0 .01 0z",
    "s": "M11 3h6v6h-6z",
    "^": "M14 2.2l3.8 6.8h-7.6z",
    "v": "M14 9.8l3.8-6.8h-7.6z",
    "D": "M14 1.8l4 4.2-4 4.2-4-4.2z",
    "P": "M12.8 2h2.4v2.8H18v2.4h-2.8V10h-2.4V7.2H10V4.8h2.8z",
    "X": "M11.5 2L14 4.4 16.5 2 18 3.5 15.6 6 18 8.5 16.5 10 14 7.6 11.5 10 10 8.5 12.4 6 10 3.5z",
}
"""The markers of pens.py, centred in a box of 28 × 12."""


@dataclass(frozen=True)
class KeyEntry:
    """A name and its swatch (SVG)."""

    name: str
    swatch: str


def swatch(pen: Pen) -> str:
    """Return a short line with the pen's colour, dash and marker."""
    dash = f' stroke-dasharray="{" ".join(f"{1.4 * length:g}" for length in pen.dash)}"' if pen.dash else ""
    colour = f"var(--series-{pen.series})"
    return (
        '<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">'
        f'<path d="M0 6H28" style="stroke: {colour}; stroke-width: 1.8"{dash}/>'
        f'<path d="{SHAPES[pen.marker]}" style="fill: {colour}"/></svg>'
    )


def key_of(pens: Mapping[str, Pen]) -> list[KeyEntry]:
    """Return one entry per pen, in order."""
    return [KeyEntry(name, swatch(pen)) for name, pen in pens.items()]
