"""Finds state that two modules hold and only one of them may."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["find_shared"]


def find_shared(parts: Sequence[nn.Module]) -> tuple[int, int, str] | None:
    """Return the first two parts that hold the same parameter or the same layer with running statistics.

    Returns:
        Their indices, and the name of what they share in the second one; None where nothing is shared.
    """
    owner: dict[int, int] = {}
    for part, module in enumerate(parts):
        layers = module.named_modules()
        keeping = [(n, m) for n, m in layers if isinstance(m, _NormBase) and m.running_mean is not None]
        for name, held in [*module.named_parameters(), *keeping]:
            if owner.setdefault(id(held), part) != part:
                return owner[id(held)], part, name
    return None
