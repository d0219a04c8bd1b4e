"""Restores training and evaluation mode after a network was examined in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["modes_kept"]


@contextmanager
def modes_kept(*nets: nn.Module) -> Iterator[None]:
    """A scope after which every module of `nets` is in its earlier mode."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    try:
        yield
    finally:
        # Not with train(), which a network may override.
        for module, training in modes:
            module.training = training
