"""SwitOKD: switchable online knowledge distillation (Qian et al., ECCV 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import soft_kl, softmax
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_choice
from codistill.types import GroupShape, Progress, StepOutput

__all__ = ["SwitOKD"]


class SwitOKD(Method):
    """`switokd`: L_i = CE_i + KL(p_j, p_i) for two networks; the larger one, t, pauses while it is too far ahead.

    d_i = mean ‖p_i - y‖₁, G = mean ‖p_s - p_t‖₁, ε = exp(-d_t / (d_t + d_s)), δ = d_s - ε d_t, with p = softmax(z).
    In a batch with G > δ and d_t < d_s, t is paused: L = L_s, and the step leaves t's parameters, momentum and weight
    decay alone (its running statistics move, as those of every network that runs in training mode). Else L = L_s + L_t.

    The one stop-gradient: p_j as a target is detached, and so is all that the decision is made of.

    Args:
        shape: sizes of the group: two networks that share nothing.
        teacher: index of t, the larger network; the other one, s, is the leader, which is deployed.
    """

    max_peers = 2
    soft_labels = False
    recordable = False  # the executor reads `update_P` in every step

    def __init__(self, shape: GroupShape, *, teacher: int = 0) -> None:
        super().__init__(shape)
        check_choice("teacher", teacher, (0, 1))
        if shape.shares_trunk:
            raise UserError(
                "switokd with peers that share a trunk: the student that learns would move the trunk of the one that "
                "is paused; use networks."
            )
        self.teacher, self.leader = teacher, 1 - teacher

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i KL(p_j, p_i), of both networks, also in batches in which t is paused.

        There `loss` and `loss_by_peer` hold nothing of t: its entry is 0. diagnostics: "paused", 1 there and else 0.
        """
        logits_PNC = rows.logits_PNC
        prob_PNC = softmax(logits_PNC.detach())
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(prob_PNC.flip(0), logits_PNC))
        paused = self._paused(rows, prob_PNC)
        peers_P = torch.arange(2, device=logits_PNC.device)
        learns_P = ~(paused & (peers_P == self.teacher))
        by_peer_P = torch.where(learns_P, ce_P + kd_P, 0)
        parts = {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()}
        return StepOutput(by_peer_P.sum(), by_peer_P, parts, {"paused": paused.to(by_peer_P.dtype)}, learns_P)

    def _paused(self, rows: Rows, prob_PNC: Tensor) -> Tensor:
        """Whether t is paused, a bool scalar on the device."""
        label_prob_PN = prob_PNC.gather(-1, rows.labels.expand(2, -1).unsqueeze(-1)).squeeze(-1)
        # ‖p - y‖₁ = (1 - p_y) + Σ_{c≠y} p_c for y one-hot.
        distance_P = rows.mean(2 * (1 - label_prob_PN))
        d_t, d_s = distance_P[self.teacher], distance_P[1 - self.teacher]
        gap = rows.mean((prob_PNC[0] - prob_PNC[1]).abs().sum(-1))
        # Two perfect networks make this NaN, and no comparison with NaN holds: both learn.
        threshold = d_s - torch.exp(-d_t / (d_t + d_s)) * d_t
        return (gap > threshold) & (d_t < d_s)
