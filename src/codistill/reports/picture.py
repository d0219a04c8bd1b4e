"""A figure with its title and note."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Picture"]


@dataclass(frozen=True)
class Picture:
    """One figure: its title, the drawing as SVG, and a note below it."""

    title: str
    svg: str
    note: str = ""
