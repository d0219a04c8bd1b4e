"""The optimizer's settings, and the check of them; `optimizer.py` builds it and `schedule.py` reads its schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tyro.conf import Suppress

from codistill.errors import UserError, check_rules
from codistill.meaning import setting

__all__ = ["DEFAULTS", "OptimConfig"]

SGD = "sgd"
MOMENTUM, NESTEROV = 0.9, True

DEFAULTS: Mapping[str, tuple[float, float]] = {
    SGD: (0.1, 5e-4),
    "adam": (1e-3, 0.0),
    "adamw": (1e-3, 0.05),
    "nadam": (1e-3, 0.0),
    "radam": (1e-3, 0.0),
    "adamax": (1e-3, 0.0),
    "adagrad": (1e-2, 0.0),
    "adadelta": (1.0, 0.0),
    "rmsprop": (1e-3, 0.0),
    "rprop": (1e-2, 0.0),
    "asgd": (1e-2, 0.0),
    "adafactor": (1e-2, 0.0),
}
"""Name of an optimizer -> its learning rate and weight decay if these are left out. adamw: 0.05 is what the recipes of
ConvNeXt, DeiT and Swin use; rmsprop: a tenth of torch's rate, which is too large for networks with batch norm."""

USUAL = (1e-3, 0.0)
"""Learning rate and weight decay of any other optimizer."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule; the defaults are OKDDip's settings for CIFAR."""

    name: str = setting(SGD)
    """Optimizer: sgd, adamw or any other class of torch.optim, or path/to/file.py:Name. One optimizer holds the
    parameters of all students, so one that takes norms over all its parameters would mix them."""
    lr: float | None = setting(None)
    """Learning rate at the start (after the warm-up); if left out 0.1 for sgd, 0.001 for adam and adamw."""
    momentum: float = setting(MOMENTUM)
    """Momentum of SGD, 0 to below 1."""
    nesterov: bool = setting(NESTEROV)
    """Nesterov's momentum, of SGD."""
    weight_decay: float | None = setting(None)
    """Weight decay; if left out 5e-4 for sgd, 0.05 for adamw, none for others."""
    options: Suppress[dict[str, Any]] = setting(make=dict)
    """Further keywords of the optimizer: --set optim.options.eps=1e-6 'optim.options.betas=[0.9, 0.95]'."""
    decay: Literal["all", "matrices"] = setting("all")
    """What weight decay acts on: all parameters, or matrices and convolutions only (not norms and biases)."""
    head_lr: float = setting(1.0)
    """Factor on the learning rate of each student's classifier, such as 10 for a new one on pretrained layers."""
    layer_decay: float = setting(1.0)
    """Factor on the learning rate per block, counted from the classifier down: 0.75 lets early layers move little."""
    clip_grad: float | None = setting(None)
    """Largest norm of the gradient, per student; a shared trunk and the method's own parameters have their own norm."""
    schedule: Literal["step", "cosine", "constant"] = setting("step")
    """How the learning rate falls: times gamma at each milestone, along half a cosine to min-lr, or not at all."""
    milestones: tuple[float, ...] = setting((0.5, 0.75))
    """Where the step schedule falls, as shares of the run (0.5 0.75: epochs 150 and 225 of 300)."""
    gamma: float = setting(0.1)
    """Factor at each milestone."""
    min_lr: float = setting(0.0)
    """Learning rate at the end of the cosine schedule."""
    warmup_epochs: float = setting(0.0)
    """Epochs over which the learning rate rises linearly from 0."""

    @property
    def lr_used(self) -> float:
        """The learning rate, or the optimizer's default."""
        return self._default[0] if self.lr is None else self.lr

    @property
    def weight_decay_used(self) -> float:
        """The weight decay, or the optimizer's default."""
        return self._default[1] if self.weight_decay is None else self.weight_decay

    @property
    def is_sgd(self) -> bool:
        """Whether the optimizer is torch's SGD, which takes momentum."""
        return self.name.lower() == SGD

    def filled(self) -> OptimConfig:
        """Return these settings with every number that was left out."""
        return dataclasses.replace(self, lr=self.lr_used, weight_decay=self.weight_decay_used)

    def check(self) -> None:
        """Raise UserError for a value that is out of range."""
        clip, least = self.clip_grad, self.min_lr
        check_rules(
            ("optim.lr", self.lr, self.lr is None or self.lr > 0, "above 0"),
            ("optim.momentum", self.momentum, 0 <= self.momentum < 1, "0 or more and below 1"),
            ("optim.momentum", self.momentum, self.momentum > 0 or not self.nesterov, "above 0 with optim.nesterov"),
            ("optim.weight_decay", self.weight_decay, self.weight_decay_used >= 0, "0 or more"),
            ("optim.head_lr", self.head_lr, self.head_lr > 0, "above 0"),
            ("optim.layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0 and at most 1"),
            ("optim.clip_grad", clip, clip is None or clip > 0, "above 0"),
            ("optim.gamma", self.gamma, 0 < self.gamma <= 1, "above 0 and at most 1"),
            (
                "optim.milestones",
                self.milestones,
                all(0 < m < 1 for m in self.milestones),
                "shares above 0 and below 1",
            ),
            ("optim.min_lr", least, 0 <= least < self.lr_used, f"0 or more and below optim.lr ({self.lr_used})"),
            (
                "optim.min_lr",
                least,
                least == 0 or self.schedule == "cosine",
                "left out unless optim.schedule is cosine",
            ),
            ("optim.warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0, "0 or more"),
        )
        if not self.is_sgd and (self.momentum, self.nesterov) != (MOMENTUM, NESTEROV):
            raise UserError(
                f"optim.momentum {self.momentum} and optim.nesterov {self.nesterov} with {self.name}: these are SGD's; "
                f"leave them out, and give what {self.name} takes as optim.options."
            )

    def check_length(self, epochs: int) -> None:
        """Raise UserError if the warm-up does not end within the run."""
        if self.warmup_epochs >= epochs:
            raise UserError(
                f"optim.warmup_epochs {self.warmup_epochs}: it must be shorter than the run of {epochs} epochs; train "
                "longer, or give --optim.warmup-epochs 0."
            )

    @property
    def _default(self) -> tuple[float, float]:
        return DEFAULTS.get(self.name.lower(), USUAL)
