"""Training and evaluation mode, put back after a look at a network in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["modes_kept"]


@contextmanager
def modes_kept(*nets: nn.Module) -> Iterator[None]:
    """A scope after which every module of `nets` is in the mode that it was in before."""
    modes = [(part, part.training) for net in nets for part in net.modules()]
    try:
        yield
    finally:
        # Not by train(), which a network may override.
        for part, training in modes:
            part.training = training
