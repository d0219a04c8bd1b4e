"""A method of one's own: of every sample each student learns from its most certain peer (docs/own-method.md)."""

import math

import torch

from codistill import GroupShape, Progress, StepOutput, UserError
from codistill.losses import entropy, soft_kl, softmax
from codistill.methods import Method, Rows


class MostCertainPeer(Method):
    """L_i = CE_i + T² c_k KL(q'_k, q'_i), k = argmin_{j≠i} H(q_j), c_k = 1 - H(q_k) / log C, for every sample."""

    def __init__(self, shape: GroupShape, *, temperature: float = 2.0) -> None:
        super().__init__(shape)
        if not temperature > 0:
            raise UserError(f"temperature {temperature}: it must be greater than 0; try 1 to 4.")
        self.temperature = temperature

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        T, (P, N, C) = self.temperature, rows.logits_PNC.shape
        peers_PNC = rows.logits_PNC.detach()  # the one stop-gradient: pupils do not move their teacher
        certainty_PN = 1 - entropy(peers_PNC) / math.log(C)
        itself_PP1 = torch.eye(P, dtype=torch.bool, device=peers_PNC.device).unsqueeze(-1)
        weight_PN, teacher_PN = certainty_PN.expand(P, P, N).masked_fill(itself_PP1, -1.0).max(dim=1)
        target_PNC = softmax(peers_PNC, T)[teacher_PN, torch.arange(N, device=peers_PNC.device)]
        ce_P = rows.cross_entropy_P()
        kd_P = rows.mean(weight_PN * soft_kl(target_PNC, rows.logits_PNC, T))
        loss_P = ce_P + T**2 * kd_P
        parts = {"ce": ce_P.detach().sum(), "kd": kd_P.detach().sum()}
        chosen_PPN = torch.nn.functional.one_hot(teacher_PN, P).transpose(1, 2).to(loss_P.dtype)
        return StepOutput(loss_P.sum(), loss_P, parts, {"attention": rows.mean(chosen_PPN)})
