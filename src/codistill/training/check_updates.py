"""Which ways of updating the weights go together; the others are refused in a sentence."""

from __future__ import annotations

import dataclasses

import torch

from codistill import methods
from codistill.config import Config
from codistill.errors import UserError
from codistill.training.optimizer import records, skips_on_device

__all__ = ["check_updates"]


def check_updates(config: Config, amp: str, device: torch.device) -> Config:
    """Return the configuration, in which no CUDA graphs are tried where the update cannot be recorded.

    Args:
        config: checked otherwise.
        amp: the precision, without "auto".
        device: of the run.

    Raises:
        UserError: gradients accumulated over batches with students that take turns, half precision with an optimizer
            that would wait for the device, or CUDA graphs where the update cannot be recorded.
    """
    if config.accumulate > 1 and methods.needs_of(config.method, config.method_options).turns:
        raise UserError(
            f"accumulate {config.accumulate} with students that take turns: each predicts again after the update of "
            "the one before; leave accumulate out, or let all update at once."
        )
    if amp == "fp16" and device.type == "mps":
        raise UserError("amp fp16 on mps: the loss cannot be scaled there; use --amp off.")
    if amp == "fp16" and device.type == "cuda" and not skips_on_device(config.optim):
        raise UserError(
            f"amp fp16 with the optimizer {config.optim.name!r}: it cannot skip a step without waiting for the device; "
            "use sgd, adam or adamw, or --amp bf16."
        )
    reason = _not_recorded(config, amp)
    if reason is None or config.cuda_graphs is False:
        return config
    if config.cuda_graphs:
        raise UserError(f"cuda_graphs with {reason}: such a step cannot be recorded; turn cuda_graphs off.")
    # Else `auto` would try them.
    return dataclasses.replace(config, cuda_graphs=False)


def _not_recorded(config: Config, amp: str) -> str | None:
    if config.accumulate > 1:
        return f"accumulate {config.accumulate}"
    if amp == "fp16":
        return "amp fp16"
    return None if records(config.optim) else f"the optimizer {config.optim.name!r}"
