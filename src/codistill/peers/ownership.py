"""Tells whether modules that must not meet hold the same state."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

__all__ = ["find_shared"]


def find_shared(parts: Sequence[nn.Module]) -> tuple[int, int, str] | None:
    """Return the first two parts that hold the same parameter or the same layer with buffers (running statistics).

    Returns:
        Their indices, and the name of what they share in the second one; None where nothing is shared.
    """
    owner: dict[int, int] = {}
    for part, module in enumerate(parts):
        keeping = [(name, layer) for name, layer in module.named_modules() if any(True for _ in layer.buffers(False))]
        for name, held in [*module.named_parameters(), *keeping]:
            if owner.setdefault(id(held), part) != part:
                return owner[id(held)], part, name
    return None
