"""Collaborative learning (Song & Chai, NeurIPS 2018): heads on shared layers that learn from each other's mean."""

from __future__ import annotations

from codistill.errors import UserError
from codistill.losses import soft_kl
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_choice, check_temperature
from codistill.methods.peer_target import PeerTarget, use_preset
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.targets import mean_of_others
from codistill.types import GroupShape, Needs, Progress, StepOutput

__all__ = ["CLILR", "CLNN"]

PAPER = {"aggregate": "probabilities", "gradient": "none", "target_epsilon": 0.0}
RELEASED = {"aggregate": "logits", "gradient": "all", "target_epsilon": 1e-7}


class CLNN(Method):
    """`clnn`: L = Σ_i CE_i + w(e) T² Σ_i KL(t_i, q'_i), t_i = mean of the OTHER heads' q'_j, q' = softmax(z / T).

    For heads on a tree of shared layers; at every split the gradient that flows back into the shared part is divided
    by the number of children (intermediate-level representation sharing), which the group does. The one
    stop-gradient: the targets t_i are detached.

    Args:
        shape: sizes of the group.
        temperature: T.
        ramp_up: share of the run over which w(e) rises to 1; 0 for none.
        aggregate: "probabilities" as above (Song & Chai; the default), or "logits": t_i = softmax(mean of the others'
            z_j / T), as the public code of CL-ILR and CLNN that could be read has it.
        gradient: "none" as above (the default); "all" detaches nothing.
        target_epsilon: added to every class of the target; 0 by default.
        preset: "released" sets what OKDDip's authors call CL-ILR in their comparison: aggregate "logits", gradient
            "all", target_epsilon 1e-7; another value for one of these is refused.
    """

    needs = Needs(rescale_shared_gradients=True)

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 3.0,
        ramp_up: float = RAMP_UP,
        aggregate: str | None = None,
        gradient: str | None = None,
        target_epsilon: float | None = None,
        preset: str | None = None,
    ) -> None:
        super().__init__(shape)
        given = {"aggregate": aggregate, "gradient": gradient, "target_epsilon": target_epsilon}
        self.used_options = used = use_preset(preset, given, PAPER, RELEASED)
        check_choice("gradient", used["gradient"], ("none", "all"))
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        detached = used["gradient"] == "none"
        self.target = PeerTarget(self.temperature, used["aggregate"], detached, used["target_epsilon"])
        if not shape.shares_trunk:
            raise UserError(
                f"{type(self).__name__} is defined for heads that share layers: use a branched group or a tree, or dml "
                "with target='mean' for separate networks."
            )

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "kd" = Σ_i KL(t_i, q'_i)."""
        T = self.temperature
        target_PNC = self.target.of(rows.logits_PNC, mean_of_others)
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(target_PNC, rows.logits_PNC, T))
        by_peer_P = ce_P + ramp_up_weight(progress, self.ramp_up) * T**2 * kd_P
        return StepOutput(by_peer_P.sum(), by_peer_P, {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()})


class CLILR(CLNN):
    """`cl_ilr`: CLNN with one split, one trunk and m branches, as OKDDip's authors compare."""
