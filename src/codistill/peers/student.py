"""One peer of a group with shared parts, put back together as the plain network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["assemble"]


@torch.no_grad()
def assemble(plain: nn.Module, parts: Iterable[nn.Module]) -> nn.Module:
    """Return a copy of `plain` with the parameters and buffers of `parts`, which bear the same names as in `plain`.

    Whatever the parts do not hold (a module that never runs) stays as it is in `plain`. Device, dtype and
    `requires_grad` are those of the parts.
    """
    student = copy.deepcopy(plain)
    own = dict(_tensors(student))
    values = {name: tensor for part in parts for name, tensor in _tensors(part) if name in own}
    first = next(iter(values.values()), None)
    if first is not None:
        student.to(first.device)
    for name, value in values.items():
        own[name].data = value.detach().clone()
        if own[name].is_leaf and value.is_floating_point():
            own[name].requires_grad_(value.requires_grad)
    return student


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters(remove_duplicate=False)
    yield from net.named_buffers(remove_duplicate=False)
