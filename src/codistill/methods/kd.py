"""Knowledge distillation from frozen teachers (Hinton et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import soft_kl, softmax
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_temperature, check_weight
from codistill.types import GroupShape, Needs, Progress, StepOutput

__all__ = ["KD"]


class KD(Method):
    """`kd`: L = Σ_i [CE_i + λ T² KL(softmax(z_teacher / T), softmax(z_i / T))].

    The group holds the frozen teachers; several teachers give the (weighted) mean of their softened predictions. The
    one stop-gradient: the teachers' predictions.

    Args:
        shape: sizes of the group.
        temperature: T (the papers print none for KD; 4 is usual on CIFAR, ours).
        weight: λ.
        teacher_weights: a share for every teacher, summing to one; equal shares if None (ours).
    """

    min_peers = 1
    usual_peers = 1
    needs = Needs(teachers="required")

    shares_K: Tensor

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 4.0,
        weight: float = 1.0,
        teacher_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(shape)
        self.temperature, self.weight = check_temperature(temperature), check_weight("weight", weight)
        if shape.teachers < 1:
            raise UserError("kd without a teacher: give the group at least one frozen teacher (--teachers RUN).")
        shares = [1 / shape.teachers] * shape.teachers if teacher_weights is None else list(teacher_weights)
        if len(shares) != shape.teachers or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
            raise UserError(
                f"teacher_weights {shares}: give one share of 0 or more for each of {shape.teachers} teachers, summing "
                "to one."
            )
        self.register_buffer("shares_K", torch.tensor(shares, dtype=torch.float64), persistent=False)

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd"."""
        T = self.temperature
        if rows.teacher_logits_KNC is None:
            raise UserError("kd reads the teachers' logits, and got none: give teacher_logits_KBC, [K, B, C].")
        if len(rows.teacher_logits_KNC) != len(self.shares_K):
            raise UserError(
                f"logits of {len(rows.teacher_logits_KNC)} teachers for a method built for {len(self.shares_K)}: build "
                "the method from the group that it gets outputs of."
            )
        prob_KNC = softmax(rows.teacher_logits_KNC.detach(), T)
        target_NC = torch.einsum("k,knc->nc", self.shares_K.to(prob_KNC.dtype), prob_KNC)
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(target_NC, rows.logits_PNC, T))
        by_peer_P = ce_P + self.weight * T**2 * kd_P
        return StepOutput(by_peer_P.sum(), by_peer_P, {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()})
