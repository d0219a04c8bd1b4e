"""Learning rates as a pure function of the position in the run."""

from __future__ import annotations

import math

from codistill.config import OptimConfig

__all__ = ["learning_rate"]


def learning_rate(optim: OptimConfig, epoch: float, epochs: int) -> float:
    """Return the learning rate at `epoch` (0.5: half of the first epoch is done) of a run of `epochs`.

    "step": lr · gamma^(number of milestones passed), milestones as shares of the run (the papers' 150 and 225 of 300
    epochs are 0.5 and 0.75). "cosine": from lr to min_lr along half a cosine after the warm-up. "constant": lr.
    During the first `warmup_epochs` the rate rises linearly from 0 to lr.
    """
    lr = optim.lr_used
    if epoch < optim.warmup_epochs:
        return lr * epoch / optim.warmup_epochs
    if optim.schedule == "constant":
        return lr
    if optim.schedule == "cosine":
        share = (epoch - optim.warmup_epochs) / (epochs - optim.warmup_epochs)
        return optim.min_lr + (lr - optim.min_lr) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    # A milestone falls on the first whole epoch at or after its share, so that no epoch has two rates.
    passed = sum(epoch >= math.ceil(round(share * epochs, 6)) for share in optim.milestones)
    return lr * optim.gamma**passed
