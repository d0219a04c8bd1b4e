"""The ramp-up of the soft terms' weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.types import Progress

__all__ = ["RAMP_UP", "check_ramp_up", "ramp_up_weight"]

RAMP_UP = 80 / 300
"""The released code's ramp-up, 80 of 300 epochs, as a share of the run."""


def check_ramp_up(ramp_up: float) -> float:
    """Return the share of the run; UserError unless it lies in 0 to 1."""
    if not 0 <= ramp_up <= 1:
        raise UserError(f"ramp_up {ramp_up}: it is the share of the run that ramps up; give 0 (none) to 1.")
    return float(ramp_up)


def ramp_up_weight(progress: Progress, ramp_up: float = RAMP_UP) -> float | Tensor:
    """w(e) = exp(-5 (1 - min(e / r, 1))²), where r is `ramp_up` times the run's length; 1 where `ramp_up` is 0.

    A 0-dim tensor where the position is one, so that a recorded step does not keep the weight of one position. Times a
    tensor that has dimensions, it takes that tensor's dtype.
    """
    if ramp_up == 0:
        return 1.0
    fraction = progress.fraction
    if isinstance(fraction, Tensor):
        return torch.exp(-5.0 * (1.0 - (fraction / ramp_up).clamp(max=1.0)) ** 2)
    return math.exp(-5.0 * (1.0 - min(fraction / ramp_up, 1.0)) ** 2)
