"""The interior point method of KDCL-Linear: for the samples that Newton steps leave, of any scale, and for batches.

Primal-dual in alpha and q as two unknowns. Kept apart from alpha, q log q with its barrier is self-concordant: nearly
piecewise-linear problems (logits of 1e4) take hardly more iterations than smooth ones: about 10, at most some 30.

Letters in addition to those of types.py: G problems of S samples each, which share one alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RELATIVE", "TOLERANCE", "WIDE", "WIDEST", "Point", "certified", "interior_point", "start"]

# Certified gap in nats; the contract is 1e-6. Where logits differ by more than WIDE, the resolution of fp64 no longer
# allows a gap with q = p; q itself then certifies RELATIVE of the difference, up to WIDEST (wider: scaled to that).
TOLERANCE = 5e-7
WIDE = 5e4
RELATIVE = 1e-12
WIDEST = 1e9
# Ten times what any problem was seen to take: reaching it is a fault of ours, and is raised as one.
_ITERATIONS = 300


class Point(NamedTuple):
    """A primal-dual point of min_q sum q log q - min_i (D q)_i: alpha > 0 belongs to (D q)_i >= t, u > 0 to q >= 0."""

    alpha_GP: Tensor
    q_GSC: Tensor  # sums to 1/S for every sample: F is the mean over the samples
    slack_GP: Tensor  # (D q)_i - t, independent of q until convergence
    u_GSC: Tensor
    t_G1: Tensor
    nu_GS1: Tensor  # multiplier of the sums of q

    def move(self, step: Point, length_G: Tensor) -> Point:
        """The point `length` along `step`; the sums of alpha and q are restored, which removes rounding only."""
        moved = [a + length_G.view(-1, *[1] * (a.ndim - 1)) * b for a, b in zip(self, step, strict=True)]
        S = self.q_GSC.shape[1]
        return Point(
            moved[0] / moved[0].sum(1, keepdim=True), moved[1] / (moved[1].sum(2, keepdim=True) * S), *moved[2:]
        )

    def length(self, step: Point, fraction: float) -> Tensor:
        """The longest step [G] up to 1 that goes at most `fraction` of the way to a bound."""
        rates = [(-b / a).flatten(1).amax(1) for a, b in zip(self[:4], step[:4], strict=True)]
        return fraction / torch.stack(rates).amax(0).clamp_min(fraction)

    def complementarity(self) -> Tensor:
        """Mean [G] of alpha^T slack and q^T u, which the method drives to zero."""
        return ((self.alpha_GP * self.slack_GP).sum(1) + (self.q_GSC * self.u_GSC).sum((1, 2))) / 2


def interior_point(D_GPSC: Tensor) -> Tensor:
    """The minimiser [G, P] of the mean of F over the S samples of every problem (primal-dual predictor-corrector)."""
    G, P, S, C = D_GPSC.shape
    result_GP = D_GPSC.new_full((G, P), 1 / P)
    scale_G = D_GPSC.abs().amax((1, 2, 3)).clamp_min(1e-3)
    rows_G = torch.isfinite(scale_G).nonzero().squeeze(1)
    D = D_GPSC[rows_G] / scale_G[rows_G].view(-1, 1, 1, 1)
    scale = scale_G[rows_G].clamp_max(WIDEST)
    point = start(D, scale)
    for _ in range(_ITERATIONS):
        open_G = ~certified(D, scale, point)
        left = int(open_G.sum())
        if left <= len(rows_G) // 2:
            result_GP[rows_G] = point.alpha_GP
            kept = open_G.nonzero().squeeze(1)
            rows_G, D, scale, open_G = rows_G[kept], D[kept], scale[kept], open_G[kept]
            point = Point(*(t[kept] for t in point))
            if left == 0:
                return result_GP
        direction = _newton_equations(D, scale, point)
        alpha, q, slack, u, *_ = point
        predicted = direction(-alpha * slack, -q * u)
        reached = point.move(predicted, point.length(predicted, 1.0)).complementarity()
        now = point.complementarity()
        centre_G1 = ((reached / now) ** 3 * now).unsqueeze(1)
        step = direction(
            centre_G1 / P - alpha * slack - predicted.alpha_GP * predicted.slack_GP,
            centre_G1.unsqueeze(2) / (S * C) - q * u - predicted.q_GSC * predicted.u_GSC,
        )
        point = point.move(step, torch.where(open_G, point.length(step, 0.99), 0.0))
    raise RuntimeError(f"KDCL-Linear: {len(rows_G)} samples without a certificate; please report the logits.")


def start(D_GPSC: Tensor, scale_G: Tensor) -> Point:
    """Equal weights, the softmax of their mixture (softened), and multipliers well away from their bounds."""
    G, P, S, _ = D_GPSC.shape
    mixture_GSC = D_GPSC.mean(1)
    soft_GSC = mixture_GSC / (1 / scale_G).clamp_min(0.3).view(-1, 1, 1)
    q_GSC = soft_GSC.softmax(2) / S
    Dq_GP = (D_GPSC * q_GSC.unsqueeze(1)).sum((2, 3))
    t_G1 = Dq_GP.amin(1, keepdim=True) - 0.5
    slope_GSC = soft_GSC.log_softmax(2) / scale_G.view(-1, 1, 1) - mixture_GSC
    nu_GS1 = 0.5 - slope_GSC.amin(2, keepdim=True)
    return Point(D_GPSC.new_full((G, P), 1 / P), q_GSC, Dq_GP - t_G1, slope_GSC + nu_GS1, t_G1, nu_GS1)


def certified(D_GPSC: Tensor, scale_G: Tensor, point: Point, share: Tensor | float = 1.0) -> Tensor:
    """Whether the gap of alpha is small enough, [G]; the bound is from p, or from q where logits are very wide.

    Args:
        D_GPSC: logits, divided by their scale.
        scale_G: that scale.
        point: alpha and q.
        share: of the samples, those that count; the others have no logits but zeros, and dilute the mean gap.
    """
    S = D_GPSC.shape[2]
    wide_G = scale_G > WIDE
    x_GSC = (point.alpha_GP.view(*D_GPSC.shape[:2], 1, 1) * D_GPSC).sum(1) * scale_G.view(-1, 1, 1)
    p_GSC = torch.where(wide_G.view(-1, 1, 1), point.q_GSC * S, x_GSC.softmax(2))
    g_GP = (D_GPSC * p_GSC.unsqueeze(1)).sum((2, 3)) / S
    # F(alpha) - (D^T alpha)^T q - H(q) = KL(q, softmax(x)), zero for q = p.
    divergence_G = (torch.xlogy(p_GSC, p_GSC) - p_GSC * x_GSC.log_softmax(2)).sum(2).mean(1)
    gap_G = ((point.alpha_GP * g_GP).sum(1) - g_GP.amin(1)) * scale_G
    return torch.where(wide_G, gap_G + divergence_G <= RELATIVE * scale_G * share, gap_G <= TOLERANCE * share)


def _newton_equations(D_GPSC: Tensor, scale_G: Tensor, point: Point) -> Callable[[Tensor, Tensor], Point]:
    """Factorise the optimality conditions: wished changes of alpha * slack [G, P] and q * u [G, S, C] -> the step."""
    G, P, S, C = D_GPSC.shape
    alpha, q, slack, u, t, nu = point
    D_GPN = D_GPSC.flatten(2)

    def mix(alpha_GP: Tensor) -> Tensor:
        return torch.bmm(alpha_GP.unsqueeze(1), D_GPN).view(G, S, C)

    def expect(q_GSC: Tensor) -> Tensor:
        return torch.bmm(D_GPN, q_GSC.reshape(G, S * C, 1)).squeeze(2)

    tau_G11 = (1 / scale_G).view(-1, 1, 1)
    W_GSC = q / (tau_G11 + u)
    sum_GS1 = W_GSC.sum(2, keepdim=True)
    # Centred before it is squared: what nearly equal students share may be 1e7 times what they differ in.
    mean_GPS1 = (D_GPN * W_GSC.view(G, 1, S * C)).view(G, P, S, C).sum(3, keepdim=True) / sum_GS1.unsqueeze(1)
    spread_GPN = (D_GPN.view(G, P, S, C) - mean_GPS1).flatten(2)
    K_GPP = torch.bmm(spread_GPN * W_GSC.view(G, 1, S * C), spread_GPN.mT)
    K_GPP.diagonal(dim1=1, dim2=2).add_(slack / alpha)
    # Unit diagonal, and a little more of it for students that are equal and both in use.
    norm_GP1 = K_GPP.diagonal(dim1=1, dim2=2).rsqrt().unsqueeze(2)
    K_GPP = K_GPP * norm_GP1 * norm_GP1.mT
    K_GPP.diagonal(dim1=1, dim2=2).add_(1e-13)
    LU_GPP, pivots, _ = torch.linalg.lu_factor_ex(K_GPP)
    # tau log q + nu - x - u and (D q)_i - t - s are the residuals of the two optimality conditions.
    dual_GSC = mix(alpha) + u - nu - tau_G11 * (q * S).log()
    primal_GP = expect(q) - t - slack

    def direction(product_GP: Tensor, product_GSC: Tensor) -> Point:
        h_GSC = dual_GSC + product_GSC / q
        centred_GSC = h_GSC - (W_GSC * h_GSC).sum(2, keepdim=True) / sum_GS1
        right_GP = product_GP / alpha - primal_GP - expect(W_GSC * centred_GSC)
        both_GP2 = torch.stack([torch.ones_like(right_GP), right_GP], 2) * norm_GP1
        ones_GP, plain_GP = (torch.linalg.lu_solve(LU_GPP, pivots, both_GP2) * norm_GP1).unbind(2)
        dt_G1 = -plain_GP.sum(1, keepdim=True) / ones_GP.sum(1, keepdim=True)
        dalpha_GP = plain_GP + dt_G1 * ones_GP
        e_GSC = mix(dalpha_GP) + h_GSC
        dnu_GS1 = (W_GSC * e_GSC).sum(2, keepdim=True) / sum_GS1
        dq_GSC = W_GSC * (e_GSC - dnu_GS1)
        dslack_GP, du_GSC = (product_GP - slack * dalpha_GP) / alpha, (product_GSC - u * dq_GSC) / q
        return Point(dalpha_GP, dq_GSC, dslack_GP, du_GSC, dt_G1, dnu_GS1)

    return direction
