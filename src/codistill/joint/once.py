"""Warnings that are given once."""

from __future__ import annotations

import warnings

__all__ = ["Once"]


class Once:
    """Warns of each thing once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, what: str, text: str) -> None:
        """Warn with `text` unless there was a warning of `what` before."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(text, stacklevel=3)
