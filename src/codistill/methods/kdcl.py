"""KDCL: online knowledge distillation via collaborative learning (Guo et al., CVPR 2020), its four target rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import read_freely, soft_kl, softmax
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_temperature, check_weight
from codistill.targets import general_weights, linear_combination, minlogit, naive
from codistill.types import GroupShape, Needs, Progress, StepOutput

__all__ = ["KDCL", "KDCLGeneral", "KDCLLinear", "KDCLMinLogit", "KDCLNaive"]


HELD_OUT = 0.1
"""Share of the training images from which KDCL-General takes its weights."""


class KDCL(Method):
    """L = Σ_i [CE_i + λ T² KL(softmax(z_t / T), softmax(z_i / T))], one target z_t for all students.

    The one stop-gradient: z_t is detached. The rules differ only in `target`. One student alone is refused: it would be
    its own target, and the soft term zero.

    Args:
        shape: sizes of the group.
        temperature: T (not printed in the paper; 2 is ours).
        weight: λ (not printed in the paper; 1 is ours).
    """

    def __init__(self, shape: GroupShape, *, temperature: float = 2.0, weight: float = 1.0, **options: Any) -> None:
        super().__init__(shape, **options)
        self.temperature, self.weight = check_temperature(temperature), check_weight("weight", weight)

    def target(self, rows: Rows) -> Tensor:
        """The target's logits z_t, [N, C], detached."""
        raise AssertionError(f"{type(self).__name__} defines no target")

    def diagnosed_target(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The target, and diagnostics of how it was made, for rules that have any."""
        return self.target(rows), {}

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i KL(softmax(z_t / T), softmax(z_i / T)); diagnostics: the rule's."""
        T = self.temperature
        target_NC, diagnostics = self.diagnosed_target(rows)
        target_prob_NC = softmax(target_NC, T)
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(target_prob_NC, rows.logits_PNC, T))
        by_peer_P = ce_P + self.weight * T**2 * kd_P
        parts = {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()}
        return StepOutput(by_peer_P.sum(), by_peer_P, parts, diagnostics)


class KDCLNaive(KDCL):
    """`kdcl_naive`: per sample the student with the lowest cross-entropy is the target (soft labels allowed).

    The choice is made by the labels without label smoothing.
    """

    def target(self, rows: Rows) -> Tensor:
        """z_t = z_k, k = argmin_i CE(z_i, y)."""
        return naive(rows.logits_PNC, rows.labels)


class KDCLMinLogit(KDCL):
    """`kdcl_minlogit`: per sample and class the smallest logit after the label's is shifted to zero."""

    soft_labels = False

    def target(self, rows: Rows) -> Tensor:
        """z_t[j] = min_i (z_i[j] - z_i[y])."""
        return minlogit(rows.logits_PNC, rows.labels)


class KDCLLinear(KDCL):
    """`kdcl_linear`: z_t = αᵀZ with α = argmin over the simplex of CE(αᵀZ, y), solved exactly.

    Args:
        shape, temperature, weight: as in every KDCL rule.
        per_batch: one α for the whole batch instead of one for every sample (ours); rows of weight 0 have no say in it.
    """

    soft_labels = False

    def __init__(
        self, shape: GroupShape, *, temperature: float = 2.0, weight: float = 1.0, per_batch: bool = False
    ) -> None:
        super().__init__(shape, temperature=temperature, weight=weight)
        self.per_batch = per_batch

    def diagnosed_target(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """z_t = Σ_i α_i z_i; on a GPU with "uncertified", the share of the rows whose α may not be the best one.

        On the CPU such a row is an error.
        """
        logits_PNC = rows.logits_PNC.detach()
        # Rows that count for nothing must not shape the α that all rows share; other weights do not enter α.
        kept_N = rows.weights_N > 0 if self.per_batch and rows.weights_N is not None else None
        target_NC, weights_PN, certified_N = linear_combination(logits_PNC, rows.labels, self.per_batch, kept_N)
        if kept_N is not None and len(kept_N):
            target_NC = torch.einsum("p,pnc->nc", weights_PN[:, 0].to(logits_PNC.dtype), logits_PNC)
        if read_freely(logits_PNC):
            return target_NC, {}
        return target_NC, {"uncertified": rows.mean((~certified_N).to(logits_PNC.dtype))}

    def concerns(self, diagnostics: Mapping[str, Any]) -> list[str]:
        """A sentence where a target has no certificate."""
        share = diagnostics.get("uncertified", 0.0)
        if not share > 0:
            return []
        return [
            f"kdcl_linear could not certify the targets of {share:.2g} of the rows as the best combination of the "
            "students: their logits are not finite, or differ by very much; look at the loss, and lower optim.lr if a "
            "student diverges"
        ]


class KDCLGeneral(KDCL):
    """`kdcl_general`: z_t = Σ_i w_i z_i with w from a held-out part of the training set, renewed after every epoch.

    w = argmin wᵀCw over the simplex, C_ij = 1/N Σ_k (f_i(x_k) - t_k)(f_j(x_k) - t_k), f the probabilities, t one-hot.
    Before the first epoch has ended w = 1/m (ours).

    Args:
        shape, temperature, weight: as in every KDCL rule.
        held_out: share of the training set that is kept aside for w, never part of the test set.
    """

    weights_P: Tensor

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> Needs:
        """The held-out part."""
        held_out = options.get("held_out", HELD_OUT)
        if not 0 < held_out < 1:
            raise UserError(f"held_out {held_out}: it is a share of the training set; give more than 0 and under 1.")
        return Needs(held_out=held_out)

    def __init__(
        self, shape: GroupShape, *, temperature: float = 2.0, weight: float = 1.0, held_out: float = HELD_OUT
    ) -> None:
        super().__init__(shape, temperature=temperature, weight=weight, held_out=held_out)
        self.register_buffer("weights_P", torch.full((shape.peers,), 1 / shape.peers, dtype=torch.float64))

    def target(self, rows: Rows) -> Tensor:
        """z_t = Σ_i w_i z_i."""
        logits = rows.logits_PNC.detach()
        return torch.einsum("p,pnc->nc", self.weights_P.to(logits.dtype), logits)

    def diagnosed_target(self, rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The target, and "weights", w [P]."""
        return self.target(rows), {"weights": self.weights_P.detach().clone()}

    def renew(self, probs_PNC: Tensor, labels_N: Tensor) -> None:
        """Set w from the held-out part, probabilities [P, N, C]."""
        self.weights_P.copy_(general_weights(probs_PNC, labels_N))
