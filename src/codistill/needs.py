"""What a method asks of the group and of the executor, declared before either is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codistill.errors import UserError

__all__ = ["LAST_MAP", "Needs"]

LAST_MAP = "last"
"""As the path of a map: the network's last activation with positions, [B, D, H, W], before it is pooled."""


@dataclass(frozen=True)
class Needs:
    """One word for everything that goes beyond the students' logits.

    Attributes:
        features: the pooled input of each classifier, `PeerOutputs.features`.
        trunk: the pooled output of the trunk that the peers share, `PeerOutputs.trunk_features`.
        maps: paths of modules whose outputs are handed over, `PeerOutputs.maps`; "last": the last with positions.
        heads: paths of modules after which every peer gets an extra linear classifier that exists in training only,
            `PeerOutputs.head_logits`. Its parameters are trained with the peers', and are no part of a student.
        teachers: whether frozen teachers are allowed or required, `PeerOutputs.teacher_logits_KBC`.
        averaged: decay of an exponential moving average of every peer's weights, or None. After each step
            θ' ← δ θ' + (1 - δ) θ with δ = min(1 - 1 / (t + 1), averaged), t counting steps from 0; running statistics
            alike. Gives `PeerOutputs.averaged_logits_PBC` and `averaged_features`, without gradient.
        mixed: outputs of the network whose weights are the mean of the peers', `PeerOutputs.mixed_logits`, with
            gradient to all peers; they must be of one architecture.
        held_out: share of the training images that is kept aside for `Method.renew`; 0 for none.
        turns: students are updated one after the other from `StepOutput.loss_by_peer`, each from a fresh prediction.
        rescale_shared_gradients: at every split, the gradient that flows back into the shared part is divided by the
            number of children (Song & Chai 2018).

    Raises:
        UserError: a number out of range, or a path that is named twice.
    """

    features: bool = False
    trunk: bool = False
    maps: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    teachers: Literal["none", "allowed", "required"] = "none"
    averaged: float | None = None
    mixed: bool = False
    held_out: float = 0.0
    turns: bool = False
    rescale_shared_gradients: bool = False

    def __post_init__(self) -> None:
        if self.teachers not in ("none", "allowed", "required"):
            raise UserError(f"needs.teachers {self.teachers!r}: choose 'none', 'allowed' or 'required'.")
        if self.averaged is not None and not 0 <= self.averaged < 1:
            raise UserError(f"needs.averaged {self.averaged}: a decay is 0 or more and below 1, such as 0.999.")
        if not 0 <= self.held_out < 1:
            raise UserError(f"needs.held_out {self.held_out}: it is a share of the training images; give 0 to below 1.")
        for name in ("maps", "heads"):
            paths = getattr(self, name)
            if isinstance(paths, str) or len(set(paths)) < len(paths):
                raise UserError(f"needs.{name} {paths!r}: give a tuple of paths, each once.")
