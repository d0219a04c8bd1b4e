"""Deep mutual learning (Zhang et al., CVPR 2018)."""

from __future__ import annotations

import torch

from codistill.errors import UserError
from codistill.losses import soft_kl, softmax
from codistill.methods.base import Method, Rows, check_choice, check_temperature
from codistill.targets import mean_of_others
from codistill.types import GroupShape, Progress, StepOutput

__all__ = ["DML"]


class DML(Method):
    """`dml`: L_i = CE_i + T²/(m-1) Σ_{j≠i} KL(p_j, p_i), p = softmax(z / T).

    The one stop-gradient: the other students' predictions p_j are detached wherever they are a target.

    Args:
        shape: sizes of the group.
        temperature: T, 1 in the paper.
        target: "pairwise" as in the paper, or "mean": KL(mean of the others' p_j, p_i), as OKDDip's authors compare.
        updates: "simultaneous" (all students from one prediction) or "alternating" (the paper's algorithm: after a
            student's update everyone predicts anew; the training loop then runs one pass a student).
    """

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 1.0,
        target: str = "pairwise",
        updates: str = "simultaneous",
    ) -> None:
        super().__init__(shape)
        check_choice("target", target, ("pairwise", "mean"))
        check_choice("updates", updates, ("simultaneous", "alternating"))
        self.temperature, self.target = check_temperature(temperature), target
        self.alternating = updates == "alternating"
        if self.alternating and shape.shares_trunk:
            raise UserError(
                "updates='alternating' with peers that share a trunk: an update of one would change all; use networks, "
                "or updates='simultaneous'."
            )

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i 1/(m-1) Σ_{j≠i} KL(p_j, p_i)."""
        P, T = self.shape.peers, self.temperature
        prob_PNC = softmax(rows.logits_PNC, T).detach()
        if self.target == "mean":
            kl_PN = soft_kl(mean_of_others(prob_PNC), rows.logits_PNC, T)
        else:
            kl_PPN = soft_kl(prob_PNC.unsqueeze(0), rows.logits_PNC.unsqueeze(1), T)
            others_PP1 = 1 - torch.eye(P, device=kl_PPN.device, dtype=kl_PPN.dtype).unsqueeze(-1)
            kl_PN = (kl_PPN * others_PP1).sum(1) / (P - 1)
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(kl_PN)
        by_peer_P = ce_P + T**2 * kd_P
        return StepOutput(by_peer_P.sum(), by_peer_P, {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()})
