"""Notices the easy mistake of an own loop: a method's parameters that were not given to the optimizer."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

__all__ = ["Unmoved"]


class Unmoved:
    """Notices a method whose parameters get gradient and never move: they were not given to the optimizer."""

    PATIENCE = 50

    def __init__(self) -> None:
        self.calls, self.versions = 0, ()
        self.before: list[Tensor] = []

    def look(self, method: nn.Module) -> None:
        """Count a training call; warn once where no parameter has changed for `PATIENCE` of them."""
        if self.calls > self.PATIENCE:
            return
        parameters = [p for p in method.parameters() if p.requires_grad and p.grad is not None]
        if not parameters:
            return
        versions = tuple((id(p), p._version) for p in parameters)
        self.calls = self.calls + 1 if versions == self.versions else 0
        self.versions = versions
        # Optimizers that write to p.data leave the version as it is, so the values have the last word. Reading them
        # makes the host wait for a device, once per run at most.
        if self.calls == self.PATIENCE // 2:
            self.before = [p.detach().clone() for p in parameters]
        if self.calls == self.PATIENCE:
            self.calls += 1
            pulled = any(bool(p.grad.any()) for p in parameters if p.grad is not None)
            moved = any(not torch.equal(p.detach(), old) for p, old in zip(parameters, self.before, strict=True))
            self.before = []
            if pulled and not moved:
                warnings.warn(
                    f"the parameters of {type(method).__name__} have not changed for {self.PATIENCE} steps, though "
                    "they have gradients: give method.parameters() to the optimizer, next to group.parameters()",
                    stacklevel=5,
                )
