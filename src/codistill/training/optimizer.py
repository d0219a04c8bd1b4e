"""The optimizer: one for all students and the method, in one call a step."""

from __future__ import annotations

import torch
from torch import nn

from codistill.training.config import OptimConfig

__all__ = ["make_optimizer"]


def make_optimizer(optim: OptimConfig, *modules: nn.Module) -> torch.optim.Optimizer:
    """SGD over all that is trained in these modules; it treats each number alone, so it equals one for each module."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return torch.optim.SGD(
        parameters,
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        weight_decay=optim.weight_decay,
        # One kernel for all parameters, where torch has it for the device.
        fused=all(p.device.type in ("cpu", "cuda") for p in parameters),
    )
