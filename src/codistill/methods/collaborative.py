"""Collaborative learning (Song & Chai, NeurIPS 2018): heads on shared layers that learn from each other's mean."""

from __future__ import annotations

from codistill.errors import UserError
from codistill.losses import soft_kl, softmax
from codistill.methods.base import Method, Rows, check_temperature
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.targets import mean_of_others
from codistill.types import GroupShape, Progress, StepOutput

__all__ = ["CLILR", "CLNN"]


class CLNN(Method):
    """`clnn`: L = Σ_i CE_i + w(e) T² Σ_i KL(t_i, q'_i), t_i = mean of the OTHER heads' q'_j, q' = softmax(z / T).

    For heads on a tree of shared layers; at every split the gradient that flows back into the shared part is divided
    by the number of children (intermediate-level representation sharing), which the group does. The one
    stop-gradient: the targets t_i are detached.

    Args:
        shape: sizes of the group.
        temperature: T.
        ramp_up: share of the run over which w(e) rises to 1; 0 for none.
    """

    rescales_shared_gradients = True

    def __init__(self, shape: GroupShape, *, temperature: float = 3.0, ramp_up: float = RAMP_UP) -> None:
        super().__init__(shape)
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        if not shape.shares_trunk:
            raise UserError(
                f"{type(self).__name__} is defined for heads that share layers: use a branched group or a tree, or dml "
                "with target='mean' for separate networks."
            )

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i KL(t_i, q'_i)."""
        T = self.temperature
        target_PNC = mean_of_others(softmax(rows.logits_PNC, T).detach())
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(target_PNC, rows.logits_PNC, T))
        by_peer_P = ce_P + ramp_up_weight(progress, self.ramp_up) * T**2 * kd_P
        return StepOutput(by_peer_P.sum(), by_peer_P, {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()})


class CLILR(CLNN):
    """`cl_ilr`: CLNN with one split, one trunk and m branches, as OKDDip's authors compare."""
