"""PCL: peer collaborative learning (Wu and Gong, AAAI 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import cross_entropy, entropy, soft_kl, softmax, wide
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_temperature
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.methods.rows import feature_rows
from codistill.targets import mean_of_others, projection
from codistill.types import GroupShape, Needs, PeerOutputs, Progress, StepOutput

__all__ = ["PCL"]

DECAY = 0.999
"""Largest decay of the students' moving averages."""


class PCL(Method):
    """`pcl`: L = Σ_i CE(z_i) + CE(z_e) + w(e) T² Σ_i [KL(q_e, q_i) + 1/(m-1) Σ_{j≠i} KL(q'_j, q_i)].

    z_e = W_e [h_1; ...; h_m], q = softmax(z / T), and q'_j is predicted by the moving average of student j on student
    j's view. The averages are what is deployed. Every student should have a view of its own (`icl`).

    The one stop-gradient: the targets q_e and q'_j are detached. CE(z_e) trains W_e and reaches every student through
    its features. `loss_by_peer` holds the students' own terms; `loss` adds CE(z_e).

    Args:
        shape: sizes of the group.
        temperature: T.
        ramp_up: share of the run over which w(e) rises to 1; 0 for none.
        decay: the largest decay of the moving averages, see `Needs.averaged`.
        generator: draws the initial W_e, N(0, 1/D) for the D features of all students together (ours).
    """

    deploys_average = True

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> Needs:
        """Features, and the moving averages with their decay."""
        decay = options.get("decay", DECAY)
        if not 0 <= decay < 1:
            raise UserError(f"decay {decay}: a moving average keeps this share of itself; give 0 or more and below 1.")
        return Needs(features=True, averaged=decay)

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 3.0,
        ramp_up: float = RAMP_UP,
        decay: float = DECAY,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape, decay=decay)
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        self.classifier = projection(sum(shape.feature_widths), shape.num_classes, generator)

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "ce_ensemble", "kd_ensemble" = Σ_i KL(q_e, q_i), "kd_average" = the other KL, summed over i."""
        T, logits_PNC = self.temperature, rows.logits_PNC
        assert rows.averaged_PNC is not None
        ensemble_NC = self._ensemble(rows.features)
        kl_ensemble_PN = soft_kl(softmax(ensemble_NC.detach(), T), logits_PNC, T)
        averaged_PNC = rows.averaged_PNC.detach()
        # The mean of Σ_c t log t - t log q over the targets t of the others, linear in what it averages: m·N·C, not m².
        others_PNC = mean_of_others(softmax(averaged_PNC, T))
        kl_average_PN = cross_entropy(logits_PNC / T, others_PNC) - mean_of_others(entropy(averaged_PNC, T))
        ce_P, ce_ensemble = rows.cross_entropy_P(), rows.cross_entropy(ensemble_NC)
        kd_ensemble_P, kd_average_P = rows.mean(kl_ensemble_PN), rows.mean(kl_average_PN)
        by_peer_P = ce_P + ramp_up_weight(progress, self.ramp_up) * T**2 * (kd_ensemble_P + kd_average_P)
        parts = {
            "ce": ce_P.detach().sum(),
            "ce_ensemble": ce_ensemble.detach(),
            "kd_ensemble": kd_ensemble_P.detach().sum(),
            "kd_average": kd_average_P.detach().sum(),
        }
        return StepOutput(by_peer_P.sum() + ce_ensemble, by_peer_P, parts)

    def own_ensemble(self, outputs: PeerOutputs) -> Tensor:
        """z_e [B, ..., C], from the features of what is deployed: in a run's evaluation those of the averages."""
        batch = outputs.logits_PBC.shape[1:-1]
        ensemble_NC = self._ensemble([feature_rows(wide(h), batch) for h in outputs.features])
        return ensemble_NC.reshape(*batch, -1)

    def _ensemble(self, features: Sequence[Tensor]) -> Tensor:
        """z_e [N, C] from every student's features [N, D_p]."""
        return self.classifier(torch.cat(list(features), dim=-1))
