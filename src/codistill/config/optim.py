"""The optimizer's settings, and the check of them; `optimizer.py` builds it and `schedule.py` reads its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codistill.errors import UserError, check_rules
from codistill.meaning import setting

__all__ = ["OptimConfig"]


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule; the defaults are OKDDip's settings for CIFAR."""

    lr: float = setting(0.1)
    """Learning rate of SGD at the start (after the warm-up)."""
    momentum: float = setting(0.9)
    """Momentum of SGD, 0 to below 1."""
    nesterov: bool = setting(True)
    """Nesterov's momentum."""
    weight_decay: float = setting(5e-4)
    """L2 weight decay on all parameters."""
    schedule: Literal["step", "cosine", "constant"] = setting("step")
    """How the learning rate falls: times gamma at each milestone, along half a cosine to 0, or not at all."""
    milestones: tuple[float, ...] = setting((0.5, 0.75))
    """Where the step schedule falls, as shares of the run (0.5 0.75: epochs 150 and 225 of 300)."""
    gamma: float = setting(0.1)
    """Factor at each milestone."""
    warmup_epochs: float = setting(0.0)
    """Epochs over which the learning rate rises linearly from 0."""

    def check(self) -> None:
        """Raise UserError for a value that is out of range."""
        check_rules(
            ("optim.lr", self.lr, self.lr > 0, "above 0"),
            ("optim.momentum", self.momentum, 0 <= self.momentum < 1, "0 or more and below 1"),
            ("optim.momentum", self.momentum, self.momentum > 0 or not self.nesterov, "above 0 with optim.nesterov"),
            ("optim.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more"),
            ("optim.gamma", self.gamma, 0 < self.gamma <= 1, "above 0 and at most 1"),
            (
                "optim.milestones",
                self.milestones,
                all(0 < m < 1 for m in self.milestones),
                "shares above 0 and below 1",
            ),
            ("optim.warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0, "0 or more"),
        )

    def check_length(self, epochs: int) -> None:
        """Raise UserError if the warm-up does not end within the run."""
        if self.warmup_epochs >= epochs:
            raise UserError(
                f"optim.warmup_epochs {self.warmup_epochs}: it must be shorter than the run of {epochs} epochs."
            )
