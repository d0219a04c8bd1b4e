"""Newton steps with an active set for KDCL-Linear: four to twelve evaluations where the logits span less than about 60.

F is nearly piecewise linear where logits are wide, and a Newton step from one piece knows nothing of the next. So where
F rises again at the end of a step, the model of the next step mixes the moments of both ends. If one class rules at
either end, that is the exact model of the kink between them, taken to be where the two tangents along the step meet.

Hundreds of small operations: their number, more than their arithmetic, is what a solve costs.

Letters in addition to those of types.py: Q = P + 1; N samples still open; R samples left.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["newton"]

# A sample that needs more evaluations than this is one that Newton steps do not suit.
_EVALUATIONS = 20
# On the diagonal of the KKT matrix. The large one holds a student at zero, and leaves the sign of its multiplier in its
# place; the small one lets equal students, who give a singular Hessian, share alike.
_BLOCKED, _FREE = 1e30, 1e-7
# Logits further apart are left: their exponentials underflow, and a solution by Newton steps would hang on rounding.
_REACH = 700
_LOG2_E = math.log2(math.e)


def newton(D_BPC: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Minimise F = logsumexp(alpha^T D) over the simplex for every sample, by steps as full as they fit.

    Args:
        D_BPC: logits, at most 0.
        tolerance: the gap in nats that certifies alpha.

    Returns:
        The weights [B, P], and whether the gap certifies them [B].
    """
    B, P, _ = D_BPC.shape
    kkt_BQQ = D_BPC.new_ones(B, P + 1, P + 1)
    kkt_BQQ[:, P, P] = 0
    # Where alpha is not a number, no flag is raised: the sample is closed, without a certificate.
    result_BP1 = torch.where(D_BPC.amin((1, 2)).view(B, 1, 1) < -_REACH, torch.nan, D_BPC.new_full((B, P, 1), 1 / P))
    certified_B = torch.zeros(B, dtype=torch.bool, device=D_BPC.device)
    rows_N = torch.arange(B, device=D_BPC.device)
    work_BPC = torch.empty_like(D_BPC)
    D, alpha, diagonal = D_BPC, result_BP1.clone(), _diagonals(P, D_BPC.device)[1].expand(B, -1, 1)
    step, slope = torch.zeros_like(alpha), D_BPC.new_zeros(B, 1, 1)
    at, value, moments, gradient = alpha, slope, alpha, alpha
    for evaluation in range(_EVALUATIONS):
        N = len(rows_N)
        new_value, new_gradient, new_moments = _evaluate(D, alpha, work_BPC[:N])
        # Of alpha: is the gap too wide? Of the last step: does F rise at its end, and how steep compared with its fall?
        fall = -0.3 if evaluation < 8 else -0.1  # sharper late, which ends most cycles
        along_N12 = torch.bmm(new_gradient.mT, torch.cat([alpha, step], 2))
        limit_N12 = torch.cat([new_gradient.amin(1, keepdim=True) + tolerance, slope * fall], 2)
        flags_N12 = along_N12 > limit_N12
        left, kinks = flags_N12.sum((0, 1)).tolist()  # the one stall of the device
        last = left == 0 or evaluation == _EVALUATIONS - 1
        if kinks and not last:
            kink, rise = flags_N12[:, :, 1:], along_N12[:, :, 1:]
            change = slope - rise
            share = torch.where(kink, (slope / change).clamp(0.3, 1), 1.0)
            meet = torch.where(kink, ((new_value - value - rise) / change).clamp(0, 1), 1.0)
            at = torch.addcmul(at, meet, step)
            value = torch.where(kink, torch.addcmul(value, meet, slope), new_value)
            moments, gradient = torch.lerp(moments, new_moments, share), torch.lerp(gradient, new_gradient, share)
        else:
            at, value, moments, gradient = alpha, new_value, new_moments, new_gradient
        open_N11 = flags_N12[:, :, :1]
        if last or left <= 0.5 * N:
            result_BP1[rows_N] = alpha
            certified_B[rows_N] = (along_N12 <= limit_N12)[:, 0, 0]  # not if they are no numbers
            if last:
                break
            kept = open_N11.flatten().nonzero().squeeze(1)
            state = (rows_N, D, alpha, at, diagonal, value, moments, gradient, open_N11)
            rows_N, D, alpha, at, diagonal, value, moments, gradient, open_N11 = (
                t.index_select(0, kept) for t in state
            )
        x, diagonal = _minimise_model(kkt_BQQ[: len(rows_N)], moments, gradient, at, diagonal)
        step = x - at
        slope = (gradient * step).sum(1, keepdim=True)
        alpha = torch.where(open_N11, x, alpha)
    return result_BP1.squeeze(2), certified_B


def _evaluate(D_NPC: Tensor, alpha_NP1: Tensor, work_NPC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F [N, 1, 1], its gradient D p [N, P, 1] and the second moments D p D^T [N, P, P]."""
    prob_N1C = torch.bmm((alpha_NP1 * _LOG2_E).mT, D_NPC).exp2_()  # exp2 takes half as long as exp
    total_N11 = prob_N1C.sum(2, keepdim=True)
    prob_N1C.div_(total_N11)
    moments_NPP = torch.bmm(torch.mul(D_NPC, prob_N1C, out=work_NPC), D_NPC.mT)
    return total_N11.log_(), torch.bmm(D_NPC, prob_N1C.mT), moments_NPP


def _minimise_model(
    kkt_NQQ: Tensor, moments_NPP: Tensor, gradient_NP1: Tensor, at_NP1: Tensor, diagonal_NQ1: Tensor
) -> tuple[Tensor, Tensor]:
    """At most two semismooth Newton sweeps over the quadratic model about `at`: weights [N, P, 1], next diagonal."""
    P = at_NP1.shape[1]
    blocked_Q1, free_Q1, identity_QQ = _diagonals(P, at_NP1.device)
    torch.addcmul(moments_NPP, gradient_NP1, gradient_NP1.mT, value=-1, out=kkt_NQQ[:, :P, :P])
    right_NQ1 = torch.bmm(kkt_NQQ[:, :, :P], at_NP1)
    right_NQ1[:, :P] -= gradient_NP1.sub(at_NP1, alpha=_FREE)
    x_NQ1 = right_NQ1
    for _ in range(2):
        x_NQ1 = torch.linalg.solve_ex(torch.addcmul(kkt_NQQ, identity_QQ, diagonal_NQ1), right_NQ1)[0]
        # A blocked student's entry is its multiplier divided by 1e30, and some solvers return rounding in its place.
        blocked_NQ1 = diagonal_NQ1 > 1
        residual_NQ1 = right_NQ1 - torch.bmm(kkt_NQQ, torch.where(blocked_NQ1, 0.0, x_NQ1))
        x_NQ1 = torch.where(blocked_NQ1, residual_NQ1 / _BLOCKED, x_NQ1)
        before_NQ1, diagonal_NQ1 = diagonal_NQ1, torch.where(x_NQ1 > 0, free_Q1, blocked_Q1)
        if torch.equal(before_NQ1, diagonal_NQ1):
            break
    x_NP1 = x_NQ1[:, :P].clamp_min(0)
    return x_NP1 / x_NP1.sum(1, keepdim=True), diagonal_NQ1


@lru_cache(maxsize=16)
def _diagonals(P: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What is added to the KKT matrix where all students are blocked, where all are free, [Q, 1]; identity [Q, Q]."""
    both = [[[value]] * P + [[0.0]] for value in (_BLOCKED, _FREE)]
    blocked_Q1, free_Q1 = torch.tensor(both, dtype=torch.float64, device=device)
    return blocked_Q1, free_Q1, torch.eye(P + 1, dtype=torch.float64, device=device)
