"""What a `Joint` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

__all__ = ["JointOutput"]


class JointOutput(NamedTuple):
    """Loss first, logits second, and the images on the first axis of all logits, as trainers expect it.

    A trainer may gather the entries of several batches or processes along their first axis, so the logits of all
    students are [B, P, C] here, not [P, B, C].

    Attributes:
        loss: scalar. In training mode the method's loss; in evaluation mode the students' mean cross-entropy. None
            without labels.
        logits: [B, ..., C] in fp32 (or fp64), without gradient, of the student to deploy; where the method names no
            leader and no `peer` was chosen, the logarithm of the students' mean probabilities.
        logits_BPC: [B, P, ..., C] of all students, without gradient.
        loss_by_peer: [P], each student's share of the loss, detached; None without labels.
        parts: in training mode the method's terms by name, detached scalars; see `StepOutput.parts`.
    """

    loss: Tensor | None
    logits: Tensor
    logits_BPC: Tensor
    loss_by_peer: Tensor | None
    parts: Mapping[str, Tensor]
