"""Deep mutual learning (Zhang et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from codistill.errors import UserError
from codistill.losses import soft_kl
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_choice, check_temperature
from codistill.methods.peer_target import PeerTarget, use_preset
from codistill.targets import mean_of_others
from codistill.types import GroupShape, Needs, Progress, StepOutput

__all__ = ["DML"]

PAPER = {"target": "pairwise", "aggregate": "probabilities", "gradient": "none", "target_epsilon": 0.0}
RELEASED = {"target": "mean", "aggregate": "logits", "gradient": "all", "target_epsilon": 1e-7}


class DML(Method):
    """`dml`: L_i = CE_i + T²/(m-1) Σ_{j≠i} KL(p_j, p_i), p = softmax(z / T).

    The one stop-gradient: the other students' predictions p_j are detached wherever they are a target.

    Args:
        shape: sizes of the group.
        temperature: T; None for 1 as in the paper, and with preset="released" for 3.
        target: "pairwise" as in the paper (the default), or "mean": KL(mean of the others' p_j, p_i).
        updates: "simultaneous" (all students from one prediction) or "alternating" (the paper's algorithm: after a
            student's update everyone predicts again; the training loop then runs one pass per student).
        aggregate: for target="mean": "probabilities" as above (the default), or "logits": softmax(mean of the others'
            z_j / T).
        gradient: "none" as above (the default); "all" detaches nothing.
        target_epsilon: added to every class of a target; 0 by default.
        preset: "released" sets what OKDDip's authors call DML in their comparison: target "mean", aggregate "logits",
            gradient "all", target_epsilon 1e-7; another value for one of these is refused.
    """

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> Needs:
        """Turns, where updates alternate."""
        return Needs(turns=options.get("updates") == "alternating")

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float | None = None,
        target: str | None = None,
        updates: str = "simultaneous",
        aggregate: str | None = None,
        gradient: str | None = None,
        target_epsilon: float | None = None,
        preset: str | None = None,
    ) -> None:
        super().__init__(shape, updates=updates)
        given = {"target": target, "aggregate": aggregate, "gradient": gradient, "target_epsilon": target_epsilon}
        self.used_options = used = use_preset(preset, given, PAPER, RELEASED)
        check_choice("target", used["target"], ("pairwise", "mean"))
        check_choice("updates", updates, ("simultaneous", "alternating"))
        check_choice("gradient", used["gradient"], ("none", "all"))
        if used["aggregate"] == "logits" and used["target"] == "pairwise":
            raise UserError("aggregate 'logits' with target 'pairwise', which averages nothing: add target='mean'.")
        usual_temperature = 3.0 if preset == "released" else 1.0
        self.temperature = check_temperature(usual_temperature if temperature is None else temperature)
        self.pairwise, detached = used["target"] == "pairwise", used["gradient"] == "none"
        self.target = PeerTarget(self.temperature, used["aggregate"], detached, used["target_epsilon"])
        if self.needs.turns and shape.shares_trunk:
            raise UserError(
                "updates='alternating' with peers that share a trunk: an update of one would change all; use networks, "
                "or updates='simultaneous'."
            )

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i 1/(m-1) Σ_{j≠i} KL(p_j, p_i)."""
        P, T = self.shape.peers, self.temperature
        if self.pairwise:
            prob_PNC = self.target.of(rows.logits_PNC, lambda values_PNC: values_PNC)
            kl_PPN = soft_kl(prob_PNC.unsqueeze(0), rows.logits_PNC.unsqueeze(1), T)
            others_PP1 = 1 - torch.eye(P, device=kl_PPN.device, dtype=kl_PPN.dtype).unsqueeze(-1)
            kl_PN = (kl_PPN * others_PP1).sum(1) / (P - 1)
        else:
            kl_PN = soft_kl(self.target.of(rows.logits_PNC, mean_of_others), rows.logits_PNC, T)
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(kl_PN)
        by_peer_P = ce_P + T**2 * kd_P
        return StepOutput(by_peer_P.sum(), by_peer_P, {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()})
