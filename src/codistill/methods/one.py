"""ONE: knowledge distillation by on-the-fly native ensemble (Lan et al., NeurIPS 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codistill.losses import soft_kl, wide
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_choice, check_temperature
from codistill.methods.peer_target import PeerTarget, use_preset
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.methods.rows import pooled
from codistill.targets import projection
from codistill.types import GroupShape, Needs, PeerOutputs, Progress, StepOutput

__all__ = ["ONE", "Gate"]

PAPER = {"aggregate": "logits", "gradient": "none", "target_epsilon": 0.0}
RELEASED = {"aggregate": "logits", "gradient": "all", "target_epsilon": 1e-7}


class Gate(nn.Module):
    """g = softmax(ReLU(BN(W·GAP(trunk)))) over the branches.

    Args:
        width: D of the trunk's pooled features.
        branches: number of branches P.
        generator: draws the initial W, N(0, 1/D); torch's default generator if None.
    """

    def __init__(self, width: int, branches: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.linear = projection(width, branches, generator)
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, trunk_ND: Tensor) -> Tensor:
        """[N, D] -> [N, P], rows sum to one."""
        return torch.relu(self.norm(self.linear(trunk_ND))).softmax(dim=-1)


class ONE(Method):
    """`one`: L = Σ_i CE(z_i) + CE(z_e) + w(e) T² Σ_i KL(softmax(z_e/T), softmax(z_i/T)), z_e = Σ_i g_i z_i.

    The one stop-gradient: the ensemble's softened prediction is detached as a target. CE(z_e) trains the gate and
    reaches all branches. `loss_by_peer` holds the students' own terms; `loss` adds CE(z_e).

    Args:
        shape: sizes of the group; its peers must share a trunk.
        temperature: T.
        ramp_up: share of the run over which w(e) rises to 1; 0 for none.
        aggregate: what the gate mixes into the target: "logits" as above (the default), or "probabilities":
            Σ_i g_i softmax(z_i / T).
        gradient: "none" as above (the default); "all" detaches nothing, so that the KL trains the gate too.
        target_epsilon: added to every class of the target; 0 by default.
        preset: "released" sets what OKDDip's authors call ONE in their comparison: gradient "all", target_epsilon 1e-7
            (the mixture is one of logits in both); another value for one of these is refused.
        generator: draws the gate's initial weights.
    """

    needs = Needs(trunk=True)

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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape)
        given = {"aggregate": aggregate, "gradient": gradient, "target_epsilon": target_epsilon}
        self.used_options = used = use_preset(preset, given, PAPER, RELEASED)
        check_choice("gradient", used["gradient"], ("none", "all"))
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        self.detached = used["gradient"] == "none"
        self.target = PeerTarget(self.temperature, used["aggregate"], self.detached, used["target_epsilon"])
        assert shape.trunk_width is not None
        self.gate = Gate(shape.trunk_width, shape.peers, generator)

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "ce_ensemble", "kd". diagnostics: "gate", the mean weight of every branch, [P]."""
        T = self.temperature
        assert rows.trunk_ND is not None
        gate_NP = self._gate_rows(rows.trunk_ND, rows.logits_PNC.shape[1])
        gate_NP = gate_NP.to(rows.logits_PNC.dtype)
        ensemble_NC = _gated(gate_NP, rows.logits_PNC)
        gate_in_target_NP = gate_NP.detach() if self.detached else gate_NP
        target_NC = self.target.of(rows.logits_PNC, lambda values_PNC: _gated(gate_in_target_NP, values_PNC))
        ce_P, kd_P = rows.cross_entropy_P(), rows.mean(soft_kl(target_NC, rows.logits_PNC, T))
        ce_ensemble = rows.cross_entropy(ensemble_NC)
        by_peer_P = ce_P + ramp_up_weight(progress, self.ramp_up) * T**2 * kd_P
        parts = {"ce": ce_P.detach().sum(), "ce_ensemble": ce_ensemble.detach(), "kd": kd_P.detach().sum()}
        diagnostics = {"gate": gate_NP.detach().mean(0)}
        return StepOutput(by_peer_P.sum() + ce_ensemble, by_peer_P, parts, diagnostics)

    def own_ensemble(self, outputs: PeerOutputs) -> Tensor:
        """z_e, the gated ensemble [B, ..., C]; in evaluation mode the gate's norm uses its running statistics."""
        assert outputs.trunk_features is not None
        logits = wide(outputs.logits_PBC)
        gate_BP = self.gate(pooled(wide(outputs.trunk_features)))
        return torch.einsum("bp,pb...c->b...c", gate_BP.to(logits.dtype), logits)

    def _gate_rows(self, trunk_BD: Tensor, N: int) -> Tensor:
        """One gate per image; every position of a dense prediction uses its image's gate."""
        gate_BP = self.gate(trunk_BD)
        return gate_BP.repeat_interleave(N // gate_BP.shape[0], dim=0)


def _gated(gate_NP: Tensor, values_PNC: Tensor) -> Tensor:
    return torch.einsum("np,pnc->nc", gate_NP, values_PNC)
