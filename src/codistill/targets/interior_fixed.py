"""The interior point method of KDCL-Linear as a fixed sequence of operations: no number of it ever reaches the host.

For devices where the host only queues work. There a step costs the launches of its small operations, whatever the
number of samples: every sample takes part in every step, and those whose gap is certified no longer move. The equations
are those of `interior`, with one solution of the linear system per step, which saves a third of the operations; how far
a step aims at the centre follows from how far the last one got.

Letters in addition to those of types.py: G problems of S samples each, which share one alpha; N = S C; M = P + N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from codistill.targets.interior import RELATIVE, TOLERANCE, WIDE, WIDEST, certified, start

__all__ = ["interior_fixed"]

# Of 144,000 samples of all kinds and scales none takes more than 40, and only 4, of logits near 1e6, more than 33.
_STEPS = 44
# Of the tolerance, the part that is left where logits are not large.
_CLOSE = 0.002
# A step ends this far from the bound that it would meet.
_FRACTION = 0.99
# The first step, and every later one, aims at this share of the present complementarity, or more.
_FIRST_CENTRE, _LEAST_CENTRE, _MOST_CENTRE = 0.1, 0.02, 0.5


class _Problem(NamedTuple):
    """What stays the same in all steps."""

    D_GPSC: Tensor  # logits, divided by their scale
    scale_G11: Tensor
    tau_G1: Tensor  # 1 / scale
    wide_G1: Tensor
    goal_G1: Tensor  # the gap, divided by the scale, below which a problem is closed
    share_M: Tensor  # of the complementarity's total, what falls to each of its products in the centre
    ones_GP1: Tensor


def interior_fixed(D_GPSC: Tensor, share: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """The minimiser of the mean of F over the S samples of every problem, and whether it is certified.

    Args:
        D_GPSC: logits, shifted so that the label's are 0.
        share: of the samples, those that count, for the certificate; the others' logits must be all 0.

    Returns:
        The weights [G, P], and whether their gap is small enough [G]. Where logits are not finite the weights are
        equal, and not certified.
    """
    G, P, S, C = D_GPSC.shape
    size_G = D_GPSC.abs().amax((1, 2, 3)).clamp_min(1e-3)
    D = (D_GPSC / size_G.view(-1, 1, 1, 1)).contiguous()
    scale_G = size_G.clamp_max(WIDEST)
    problem = _problem(D, scale_G, share)
    first = start(D, scale_G)
    nu_GS = first.nu_GS1.squeeze(2) + math.log(S) * problem.tau_G1  # so that log q stands for log(q S)
    parts = (first.alpha_GP, first.q_GSC.flatten(1), first.slack_GP, first.u_GSC.flatten(1), -first.t_G1, nu_GS)
    state, centre_G1 = torch.cat(parts, 1), torch.full_like(problem.tau_G1, _FIRST_CENTRE)
    for _ in range(_STEPS):
        state, centre_G1 = _step(problem, state, centre_G1)
    alpha_GP = state[:, :P] / state[:, :P].sum(1, keepdim=True)
    last = first._replace(alpha_GP=alpha_GP, q_GSC=state[:, P : P + S * C].view(G, S, C))
    usable_G1 = torch.isfinite(alpha_GP).all(1, keepdim=True)
    return torch.where(usable_G1, alpha_GP, 1 / P), certified(D, scale_G, last, share)


def _problem(D_GPSC: Tensor, scale_G: Tensor, share: Tensor | float) -> _Problem:
    G, P, S, C = D_GPSC.shape
    tau_G1 = (1 / scale_G).unsqueeze(1)
    wide_G1 = (scale_G > WIDE).unsqueeze(1)
    # Below what `certified` asks for in the end: as far as rounding lets the gap fall, for the steps are there anyway;
    # where logits are wide, by the residual of tau log q, which the complementarity of alpha and q leaves out.
    gap_G1 = TOLERANCE * (0.9 / (WIDE * tau_G1)).clamp_min(_CLOSE)
    goal_G1 = torch.where(wide_G1, 0.1 * RELATIVE, S * tau_G1 * gap_G1) * share
    share_M = torch.cat([D_GPSC.new_full((P,), 0.5 / P), D_GPSC.new_full((S * C,), 0.5 / (S * C))])
    return _Problem(D_GPSC, scale_G.view(-1, 1, 1), tau_G1, wide_G1, goal_G1, share_M, D_GPSC.new_ones(G, P, 1))


def _step(problem: _Problem, state: Tensor, centre_G1: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the problems that are not closed; `state` holds alpha, q, slack, u, -t and nu side by side."""
    D_GPSC = problem.D_GPSC
    G, P, S, C = D_GPSC.shape
    M = P + S * C
    D_GPN = D_GPSC.flatten(2)
    primal_GM, dual_GM = state[:, :M], state[:, M : 2 * M]
    alpha_G1P, q_GN, u_GN = state[:, None, :P], state[:, P:M], dual_GM[:, P:]
    minus_t_G11, nu_GS1 = state[:, 2 * M, None, None], state[:, 2 * M + 1 :, None]
    x_GSC = torch.bmm(alpha_G1P, D_GPN).view(G, S, C)
    total_G1 = (primal_GM * dual_GM).sum(1, keepdim=True)
    closed_G1 = _closed(problem, alpha_G1P, x_GSC, total_G1)

    # The optimality conditions, linear in the step, with all unknowns but alpha and t eliminated.
    W_GN = q_GN / (problem.tau_G1 + u_GN)
    W_GSC, W_G1SC = W_GN.view(G, S, C), W_GN.view(G, 1, S, C)
    sum_GS1 = W_GSC.sum(2, keepdim=True)
    spread_GPSC = D_GPSC - (D_GPSC * W_G1SC).sum(3, keepdim=True) / sum_GS1.unsqueeze(1)
    weighted_GPN = (spread_GPSC * W_G1SC).flatten(2)
    K_GPP = torch.bmm(weighted_GPN, spread_GPSC.flatten(2).mT)
    ratio_GM, diagonal_GP = dual_GM / primal_GM, K_GPP.diagonal(dim1=1, dim2=2)
    # A little more on the diagonal is for students that are equal and both in use.
    torch.add(ratio_GM[:, :P], diagonal_GP, alpha=1 + 1e-13, out=diagonal_GP)
    pull_GM = centre_G1 * total_G1 * problem.share_M / primal_GM
    h_GN = torch.addcmul((x_GSC - nu_GS1).flatten(1), q_GN.log(), problem.tau_G1, value=-1) + pull_GM[:, P:]
    excess_GP1 = torch.baddbmm(minus_t_G11.expand(G, P, 1), D_GPN, q_GN.unsqueeze(2)) - pull_GM[:, :P, None]
    right_GP1 = torch.baddbmm(excess_GP1, weighted_GPN, h_GN.unsqueeze(2), beta=-1, alpha=-1)
    both_GP2 = torch.linalg.solve_ex(K_GPP, torch.cat([problem.ones_GP1, right_GP1], 2))[0]

    # Back to the others. The changes of alpha and of each sample's q sum to zero.
    sums_G12 = both_GP2.sum(1, keepdim=True)
    shift_G11 = sums_G12[:, :, 1:] / sums_G12[:, :, :1]
    dalpha_GP1 = torch.addcmul(both_GP2[:, :, 1:], both_GP2[:, :, :1], shift_G11, value=-1)
    e_GSC = torch.baddbmm(h_GN.unsqueeze(1), dalpha_GP1.mT, D_GPN).view(G, S, C) * W_GSC
    dnu_GS1 = e_GSC.sum(2, keepdim=True) / sum_GS1
    dq_GSC = torch.addcmul(e_GSC, W_GSC, dnu_GS1, value=-1)
    dprimal_GM = torch.cat([dalpha_GP1.squeeze(2), dq_GSC.flatten(1)], 1)
    ddual_GM = pull_GM - torch.addcmul(dual_GM, ratio_GM, dprimal_GM)
    step = torch.cat([dprimal_GM, ddual_GM, shift_G11.squeeze(2), dnu_GS1.squeeze(2)], 1)
    # The fastest approach to a bound, as a negative number, decides on the length of the step, FRACTION / -rate.
    rate_G1 = (step[:, : 2 * M] / state[:, : 2 * M]).amin(1, keepdim=True).clamp_max(-_FRACTION)
    moved = torch.addcdiv(state, step, rate_G1, value=-_FRACTION)
    missed_G1 = 1 + _FRACTION / rate_G1
    return torch.where(closed_G1, state, moved), missed_G1.square().clamp(_LEAST_CENTRE, _MOST_CENTRE)


def _closed(problem: _Problem, alpha_G1P: Tensor, x_GSC: Tensor, total_G1: Tensor) -> Tensor:
    """Whether the gap of alpha is small enough, [G, 1]; where logits are very wide, whether the complementarity is."""
    p_GSC = (x_GSC * problem.scale_G11).softmax(2)
    g_GP1 = torch.bmm(problem.D_GPSC.flatten(2), p_GSC.flatten(1).unsqueeze(2))
    gap_G1 = (torch.bmm(alpha_G1P, g_GP1) - g_GP1.amin(1, keepdim=True)).squeeze(2)
    return torch.where(problem.wide_G1, total_G1, gap_G1) <= problem.goal_G1
