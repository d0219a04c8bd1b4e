"""Finds state that two networks or segments share although only one of them may own it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["find_shared"]


def find_shared(modules: Sequence[nn.Module]) -> tuple[int, int, str] | None:
    """Find the first two of `modules` with the same parameter, or the same layer with running statistics.

    Returns:
        The indices of the two, and the name of what they share in the second one; None if nothing is shared.
    """
    owner: dict[int, int] = {}
    for index, module in enumerate(modules):
        layers = module.named_modules()
        keeping = [(n, m) for n, m in layers if isinstance(m, _NormBase) and m.running_mean is not None]
        for name, held in [*module.named_parameters(), *keeping]:
            if owner.setdefault(id(held), index) != index:
                return owner[id(held)], index, name
    return None
