"""KDCL-Linear: the convex combination of the students with the least cross-entropy, exact, for a whole batch at once.

Per sample, alpha = argmin over the simplex of CE(alpha^T Z, y). With D = Z - Z_y (the label's logit shifted to 0) this
is min F(alpha) = logsumexp_c (alpha^T D)_c, with gradient g = D p, p = softmax(alpha^T D). Every distribution q over
the classes bounds it from below (weak duality): min F >= min_i (D q)_i + H(q). With q = p, F(alpha) is above that bound
by the Frank-Wolfe gap alpha^T g - min_i g_i. The gap certifies every alpha returned.

1. `_newton`: Newton steps with an active set; four to ten evaluations where the logits span less than about 40.
2. `_interior_point` for the samples left, of any scale: primal-dual in alpha and q as two unknowns. Kept apart from
   alpha, q log q with its barrier is self-concordant, so nearly piecewise-linear problems (logits of 1e4) take hardly
   more iterations than smooth ones: about 10, at most some 30.

Letters beside those of types.py: Q = P + 1; N samples still open; G problems of S samples each, which share one alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["linear"]

# Certified gap in nats; the contract is 1e-6. Where logits differ by more than _WIDE, the resolution of fp64 no longer
# allows a gap with q = p; q itself then certifies _RELATIVE of the difference, up to _WIDEST (wider: scaled to that).
_TOLERANCE = 5e-7
_WIDE = 5e4
_RELATIVE = 1e-12
_WIDEST = 1e9
# A sample that needs more evaluations than this is one that Newton steps do not suit.
_NEWTON_EVALUATIONS = 16
# Ten times what any problem was seen to take: reaching it is a fault of ours, and is raised as one.
_INTERIOR_ITERATIONS = 300


def linear(logits_PBC: Tensor, labels_B: Tensor, per_batch: bool = False) -> tuple[Tensor, Tensor]:
    """z_t = alpha^T Z with alpha = argmin over the simplex of CE(alpha^T Z, y) (KDCL, CVPR 2020, KDCL-Linear).

    The cross-entropy is within 1e-6 nats of the true minimum, certified (for logits that differ by more than 1e6 within
    1e-12 of that difference, beyond 1e9 within 1e-8 of it). Where several alpha are optimal, the one returned is
    deterministic and treats equal students alike, to about 1e-6: if all are equal, alpha = 1/P.

    Args:
        logits_PBC: [P, B, C], any floating-point type; the problem is solved in fp64.
        labels_B: class indices [B] (int64); the label's logit is the reference, so no probabilities.
        per_batch: one alpha for the whole batch, of least mean cross-entropy, instead of one a sample (ours).

    Returns:
        The target's logits [B, C] (fp32 or wider, as the logits) and alpha as weights [P, B] (fp64: in fp32 the
        rounding of alpha alone would cost more than 1e-6 for large logits), both detached.

    Raises:
        UserError: shapes, types or devices do not fit; on the CPU also for labels out of range and logits that are not
            finite (elsewhere the check would stall the device; a sample with such logits gets alpha = 1/P).
    """
    _check(logits_PBC, labels_B)
    # Hundreds of small operations: without autograd's bookkeeping they take an eighth less time.
    with torch.inference_mode():
        target_BC, weights_PB = _solve(logits_PBC, labels_B, per_batch)
    return target_BC.clone(), weights_PB.clone()


def _solve(logits_PBC: Tensor, labels_B: Tensor, per_batch: bool) -> tuple[Tensor, Tensor]:
    P, B, C = logits_PBC.shape
    wide_BPC = logits_PBC.transpose(0, 1).double()
    # A row of ones under D: a single product then gives moments, gradient and normaliser.
    D1_BQC = wide_BPC.new_ones(B, P + 1, C)
    torch.sub(wide_BPC, wide_BPC.gather(2, labels_B.view(B, 1, 1).expand(B, P, 1)), out=D1_BQC[:, :P])
    if P == 1 or B == 0:
        weights_BP = wide_BPC.new_full((B, P), 1 / P)
    elif per_batch:
        weights_BP = _interior_point(D1_BQC[:, :P].transpose(0, 1).unsqueeze(0)).expand(B, P)
    else:
        weights_BP, left_R = _newton(D1_BQC)
        if left_R.numel():
            weights_BP[left_R] = _interior_point(D1_BQC[left_R, :P].unsqueeze(2))
    target_BC = torch.bmm(weights_BP.unsqueeze(1), wide_BPC).squeeze(1)
    return target_BC.to(torch.promote_types(logits_PBC.dtype, torch.float32)), weights_BP.T.contiguous()


def _newton(D1_BQC: Tensor) -> tuple[Tensor, Tensor]:
    """Newton steps with an active set, as full as they fit: weights [B, P], and which samples are not certified [R]."""
    B, Q, _ = D1_BQC.shape
    P = Q - 1
    student_Q, always_Q = D1_BQC.new_tensor([[1.0] * P + [0.0], [0.0] * P + [-torch.inf]])
    identity_QQ = torch.eye(Q, dtype=D1_BQC.dtype, device=D1_BQC.device)
    # The border of the KKT matrix, and 1e-9 on its diagonal: equal students give a singular Hessian, and share alike.
    border_QQ = D1_BQC.new_tensor([[1e-9 * (i == j) for j in range(P)] + [1.0] for i in range(P)] + [[1.0] * P + [0.0]])
    wide_N = D1_BQC.abs().amax((1, 2)) > _WIDE
    result_BQ = D1_BQC.new_full((B, Q), 1 / P)
    result_BQ[:, P] = 0
    rows_N = torch.arange(B, device=D1_BQC.device)
    D1, alpha, step = D1_BQC, result_BQ.clone(), torch.zeros_like(result_BQ)
    free, slope = torch.ones_like(result_BQ, dtype=torch.bool), result_BQ.new_zeros(B, 1)
    for evaluation in range(_NEWTON_EVALUATIONS):
        prob_N1C = torch.bmm(alpha.unsqueeze(1), D1).softmax(2)
        moments = torch.bmm(D1 * prob_N1C, D1.mT)
        gradient = moments[:, P]
        gap_N = (alpha * gradient).sum(1) - gradient[:, :P].amin(1)
        open_N = ~(gap_N <= _TOLERANCE) | wide_N  # a gap that is not a number leaves the sample open
        left = int(open_N.sum())  # the one stall of the device
        if (last := left == 0 or evaluation == _NEWTON_EVALUATIONS - 1) or left <= 0.75 * len(rows_N):
            result_BQ[rows_N] = alpha
            kept = open_N.nonzero().squeeze(1)
            rows_N = rows_N[kept]
            if last:
                break
            state = (D1, alpha, free, step, slope, moments, gradient, open_N, wide_N)
            D1, alpha, free, step, slope, moments, gradient, open_N, wide_N = (t[kept] for t in state)
        kkt_NQQ = torch.addcmul(moments, gradient.unsqueeze(2), gradient.unsqueeze(1), value=-1).add_(border_QQ)
        right_NQ1 = torch.bmm(kkt_NQQ, alpha.unsqueeze(2)) - (gradient * student_Q).unsqueeze(2)
        x_NQ, free = _active_set(kkt_NQQ, right_NQ1, free, identity_QQ, always_Q)
        x_NQ = x_NQ.clamp_min(0) * student_Q
        newton_NQ = x_NQ / x_NQ.sum(1, keepdim=True) - alpha
        # Where F rises again at the end of the last step, half as steep as it fell, go back to the secant's minimum.
        share_N1 = slope / (slope - (gradient * step).sum(1, keepdim=True))
        over_N1 = (share_N1 > 0) & (share_N1 < 2 / 3)
        moved_NQ = alpha + torch.where(over_N1, (share_N1 - 1) * step, newton_NQ)
        step = torch.where(over_N1, share_N1 * step, newton_NQ)
        slope = torch.where(over_N1, share_N1 * slope, (gradient * step).sum(1, keepdim=True))
        # Contiguous: the solver's results are not, and the products with D1 would take ten times as long.
        alpha = torch.where(open_N.unsqueeze(1), moved_NQ, alpha).contiguous()
    return result_BQ[:, :P].clamp_min(0), rows_N


def _active_set(
    kkt_NQQ: Tensor, right_NQ1: Tensor, free_NQ: Tensor, identity_QQ: Tensor, always_Q: Tensor
) -> tuple[Tensor, Tensor]:
    """Two semismooth Newton sweeps over the quadratic model: solution [N, Q] on a free set, and the next free set."""
    x_NQ1 = right_NQ1
    for _ in range(2):
        free_NQ1 = free_NQ.unsqueeze(2)
        x_NQ1 = torch.linalg.solve_ex(torch.where(free_NQ1, kkt_NQQ, identity_QQ), right_NQ1 * free_NQ1)[0]
        # The multiplier is zero on the free set and the weight is zero off it, so their difference tells both signs.
        free_NQ = (x_NQ1 - torch.bmm(kkt_NQQ, x_NQ1) + right_NQ1).squeeze(2) > always_Q
    return x_NQ1.squeeze(2), free_NQ


class _Point(NamedTuple):
    """A primal-dual point of min_q sum q log q - min_i (D q)_i: alpha > 0 belongs to (D q)_i >= t, u > 0 to q >= 0."""

    alpha_GP: Tensor
    q_GSC: Tensor  # sums to 1/S for every sample: F is the mean over the samples
    slack_GP: Tensor  # (D q)_i - t, independent of q until convergence
    u_GSC: Tensor
    t_G1: Tensor
    nu_GS1: Tensor  # multiplier of the sums of q

    def move(self, step: _Point, length_G: Tensor) -> _Point:
        """The point `length` along `step`; the sums of alpha and q are restored, which removes rounding only."""
        moved = [a + length_G.view(-1, *[1] * (a.ndim - 1)) * b for a, b in zip(self, step, strict=True)]
        S = self.q_GSC.shape[1]
        return _Point(
            moved[0] / moved[0].sum(1, keepdim=True), moved[1] / (moved[1].sum(2, keepdim=True) * S), *moved[2:]
        )

    def length(self, step: _Point, fraction: float) -> Tensor:
        """The longest step [G] up to 1 that goes at most `fraction` of the way to a bound."""
        rates = [(-b / a).flatten(1).amax(1) for a, b in zip(self[:4], step[:4], strict=True)]
        return fraction / torch.stack(rates).amax(0).clamp_min(fraction)

    def complementarity(self) -> Tensor:
        """Mean [G] of alpha^T slack and q^T u, which the method drives to zero."""
        return ((self.alpha_GP * self.slack_GP).sum(1) + (self.q_GSC * self.u_GSC).sum((1, 2))) / 2


def _interior_point(D_GPSC: Tensor) -> Tensor:
    """The minimiser [G, P] of the mean of F over the S samples of every problem (primal-dual predictor-corrector)."""
    G, P, S, C = D_GPSC.shape
    result_GP = D_GPSC.new_full((G, P), 1 / P)
    scale_G = D_GPSC.abs().amax((1, 2, 3)).clamp_min(1e-3)
    rows_G = torch.isfinite(scale_G).nonzero().squeeze(1)
    D = D_GPSC[rows_G] / scale_G[rows_G].view(-1, 1, 1, 1)
    scale = scale_G[rows_G].clamp_max(_WIDEST)
    point = _start(D, scale)
    for _ in range(_INTERIOR_ITERATIONS):
        open_G = ~_certified(D, scale, point)
        left = int(open_G.sum())
        if left <= len(rows_G) // 2:
            result_GP[rows_G] = point.alpha_GP
            kept = open_G.nonzero().squeeze(1)
            rows_G, D, scale, open_G = rows_G[kept], D[kept], scale[kept], open_G[kept]
            point = _Point(*(t[kept] for t in point))
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


def _start(D_GPSC: Tensor, scale_G: Tensor) -> _Point:
    """Equal weights, the softmax of their mixture (softened), and multipliers well away from their bounds."""
    G, P, S, _ = D_GPSC.shape
    mixture_GSC = D_GPSC.mean(1)
    soft_GSC = mixture_GSC / (1 / scale_G).clamp_min(0.3).view(-1, 1, 1)
    q_GSC = soft_GSC.softmax(2) / S
    Dq_GP = (D_GPSC * q_GSC.unsqueeze(1)).sum((2, 3))
    t_G1 = Dq_GP.amin(1, keepdim=True) - 0.5
    slope_GSC = soft_GSC.log_softmax(2) / scale_G.view(-1, 1, 1) - mixture_GSC
    nu_GS1 = 0.5 - slope_GSC.amin(2, keepdim=True)
    return _Point(D_GPSC.new_full((G, P), 1 / P), q_GSC, Dq_GP - t_G1, slope_GSC + nu_GS1, t_G1, nu_GS1)


def _certified(D_GPSC: Tensor, scale_G: Tensor, point: _Point) -> Tensor:
    """Whether the gap of alpha is small enough, [G]; the bound is from p, or from q where logits are very wide."""
    S = D_GPSC.shape[2]
    wide_G = scale_G > _WIDE
    x_GSC = (point.alpha_GP.view(*D_GPSC.shape[:2], 1, 1) * D_GPSC).sum(1) * scale_G.view(-1, 1, 1)
    p_GSC = torch.where(wide_G.view(-1, 1, 1), point.q_GSC * S, x_GSC.softmax(2))
    g_GP = (D_GPSC * p_GSC.unsqueeze(1)).sum((2, 3)) / S
    # F(alpha) - (D^T alpha)^T q - H(q) = KL(q, softmax(x)), zero for q = p.
    divergence_G = (torch.xlogy(p_GSC, p_GSC) - p_GSC * x_GSC.log_softmax(2)).sum(2).mean(1)
    gap_G = ((point.alpha_GP * g_GP).sum(1) - g_GP.amin(1)) * scale_G
    return torch.where(wide_G, gap_G + divergence_G <= _RELATIVE * scale_G, gap_G <= _TOLERANCE)


def _newton_equations(D_GPSC: Tensor, scale_G: Tensor, point: _Point) -> Callable[[Tensor, Tensor], _Point]:
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

    def direction(product_GP: Tensor, product_GSC: Tensor) -> _Point:
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
        return _Point(dalpha_GP, dq_GSC, dslack_GP, du_GSC, dt_G1, dnu_GS1)

    return direction


def _check(logits_PBC: Tensor, labels_B: Tensor) -> None:
    shape = list(logits_PBC.shape)
    if logits_PBC.ndim != 3 or not logits_PBC.is_floating_point() or 0 in (shape[0], shape[2]):
        raise UserError(f"logits have shape {shape} and dtype {logits_PBC.dtype}: give floating point [P, B, C].")
    B, C = shape[1:]
    if labels_B.dtype != torch.int64 or list(labels_B.shape) != [B]:
        raise UserError(
            f"labels have shape {list(labels_B.shape)} and dtype {labels_B.dtype}: give int64 class indices, [{B}]."
        )
    if labels_B.device != logits_PBC.device:
        raise UserError(f"labels are on {labels_B.device}, logits on {logits_PBC.device}: move both to one device.")
    if logits_PBC.device.type != "cpu" or B == 0:
        return
    outside_B = (labels_B < 0) | (labels_B >= C)
    if bool(outside_B.any()):
        raise UserError(f"label {int(labels_B[outside_B][0])} with {C} classes: labels must be 0 to {C - 1}.")
    # Zero times anything finite is zero: one pass, and no sum that could overflow.
    if not bool((logits_PBC.detach() * 0).sum() == 0):
        peer = next(p for p, logits_BC in enumerate(logits_PBC) if not torch.isfinite(logits_BC).all())
        raise UserError(f"logits of peer {peer} hold NaN or infinity: give finite logits, or leave this peer out.")
