"""The optimizer: one for all students and the method, in one call per step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from codistill.config import OptimConfig

__all__ = ["make_optimizer"]


def make_optimizer(optim: OptimConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return SGD over all parameters; it treats each number separately, so it equals one optimizer per student."""
    optimizer = torch.optim.SGD(
        parameters,
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
        # One kernel for all parameters, if torch has one for the device.
        fused=all(p.device.type in ("cpu", "cuda") for p in parameters),
    )
    if optim.momentum:
        # The fused kernel takes no step in which some parameters have momentum and others have none yet, as those of a
        # student that was paused from the start. From zero, the first step gives what it gives without.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
