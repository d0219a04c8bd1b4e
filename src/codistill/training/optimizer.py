"""The optimizer: one for all students and the method, in one call per step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from codistill.training.optim import OptimConfig

__all__ = ["make_optimizer"]


def make_optimizer(optim: OptimConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD over all parameters; it treats each number alone, so it equals one optimizer per student."""
    return torch.optim.SGD(
        parameters,
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
        # One kernel for all parameters, where torch has it for the device.
        fused=all(p.device.type in ("cpu", "cuda") for p in parameters),
    )
