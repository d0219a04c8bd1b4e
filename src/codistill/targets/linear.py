"""KDCL-Linear: the convex combination of the students with the least cross-entropy, exact, for a whole batch at once.

Per sample, alpha = argmin over the simplex of CE(alpha^T Z, y). With D = Z - Z_y (the label's logit shifted to 0) this
is min F(alpha) = logsumexp_c (alpha^T D)_c, with gradient g = D p, p = softmax(alpha^T D). Every distribution q over
the classes bounds it from below (weak duality): min F >= min_i (D q)_i + H(q). With q = p, F(alpha) is above that bound
by the Frank-Wolfe gap alpha^T g - min_i g_i. The gap certifies every alpha returned.

On the CPU `newton` solves most samples where the logits span less than some hundred, and `interior_point` those left,
of any scale; both look at every turn at what is left. On a device `interior_fixed` solves all and looks at nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import read_freely
from codistill.targets.interior import TOLERANCE, interior_point
from codistill.targets.interior_fixed import interior_fixed
from codistill.targets.newton import newton

__all__ = ["Combination", "linear", "linear_combination"]


class Combination(NamedTuple):
    """A convex combination of the students' logits, detached.

    Attributes:
        target_BC: its logits, fp32 or wider, as the students'.
        weights_PB: alpha, in fp64: in fp32 its rounding alone would cost more than 1e-6 for large logits.
        certified_B: whether its cross-entropy is certified as the least.
    """

    target_BC: Tensor
    weights_PB: Tensor
    certified_B: Tensor


def linear(logits_PBC: Tensor, labels_B: Tensor, per_batch: bool = False) -> tuple[Tensor, Tensor]:
    """z_t = alpha^T Z with alpha = argmin over the simplex of CE(alpha^T Z, y) (KDCL, CVPR 2020, KDCL-Linear).

    The cross-entropy is within 1e-6 nats of the true minimum, certified (for logits that differ by more than 1e6 within
    1e-12 of that difference, beyond 1e9 within 1e-8 of it). Where several alpha are optimal, the one returned is
    deterministic and treats equal students alike, to about 1e-6: if all are equal, alpha = 1/P.

    Args:
        logits_PBC: [P, B, C], any floating-point type; the problem is solved in fp64.
        labels_B: class indices [B] (int64); the label's logit is the reference, so no probabilities.
        per_batch: one alpha for the whole batch, of least mean cross-entropy, instead of one per sample (ours).

    Returns:
        The target's logits [B, C] (fp32 or wider, as the logits) and alpha as weights [P, B] (fp64: in fp32 the
        rounding of alpha alone would cost more than 1e-6 for large logits), both detached.

    Raises:
        UserError: shapes, types or devices do not fit; on the CPU also for labels out of range and logits that are not
            finite (elsewhere the check would stall the device; a sample with such logits gets alpha = 1/P).
    """
    target_BC, weights_PB, _ = linear_combination(logits_PBC, labels_B, per_batch)
    return target_BC, weights_PB


def linear_combination(
    logits_PBC: Tensor, labels_B: Tensor, per_batch: bool = False, kept_B: Tensor | None = None
) -> Combination:
    """As `linear`, and says of every sample whether its target is certified.

    On the CPU all are: a sample that is not is an error. On other devices the host reads nothing, so that it never
    waits, and a sample may be left without a certificate: one with logits that are not finite, say.

    Args:
        logits_PBC, labels_B, per_batch: as for `linear`.
        kept_B: for `per_batch`, the samples [B] (bool) whose cross-entropies count; None for all.

    Raises:
        UserError: as `linear`.
    """
    _check(logits_PBC, labels_B)
    # Hundreds of small operations: without autograd's bookkeeping they take an eighth less time.
    with torch.inference_mode():
        found = _solve(logits_PBC, labels_B, per_batch, kept_B)
    return Combination(*(tensor.clone() for tensor in found))


def _solve(logits_PBC: Tensor, labels_B: Tensor, per_batch: bool, kept_B: Tensor | None) -> Combination:
    P, B, C = logits_PBC.shape
    dtype = torch.promote_types(logits_PBC.dtype, torch.float32)
    all_B = torch.ones(B, dtype=torch.bool, device=logits_PBC.device)
    if P == 1 or B == 0:
        equal_PB = logits_PBC.new_full((P, B), 1 / P, dtype=torch.float64)
        return Combination(logits_PBC[0].detach().to(dtype), equal_PB, all_B)
    D_BPC = torch.empty(B, P, C, dtype=torch.float64, device=logits_PBC.device).copy_(logits_PBC.transpose(0, 1))
    # F changes by a constant with all logits of a sample: its largest goes to 0, so that no exponential overflows.
    label_BP1 = D_BPC.gather(2, labels_B.view(B, 1, 1).expand(B, P, 1))
    largest_B11 = (D_BPC.amax(2, keepdim=True) - label_BP1).amax(1, keepdim=True)
    shift_BP1 = label_BP1 + largest_B11
    D_BPC.sub_(shift_BP1)
    if read_freely(logits_PBC):
        solve = _one_for_all if per_batch else _one_for_each
        weights_BP, certified_B = solve(D_BPC, largest_B11, kept_B), all_B
    else:
        weights_BP, certified_B = _without_reading(D_BPC + largest_B11, per_batch, kept_B)
    weights_B1P = weights_BP.unsqueeze(1)
    target_BC = torch.bmm(weights_B1P, D_BPC).add_(torch.bmm(weights_B1P, shift_BP1)).squeeze(1)
    return Combination(target_BC.to(dtype), weights_BP.T.contiguous(), certified_B)


def _one_for_each(D_BPC: Tensor, largest_B11: Tensor, kept_B: Tensor | None) -> Tensor:
    weights_BP, certified_B = newton(D_BPC, TOLERANCE)
    left_R = (~certified_B).nonzero().squeeze(1)
    if left_R.numel():
        weights_BP[left_R] = interior_point((D_BPC[left_R] + largest_B11[left_R]).unsqueeze(2))
    return weights_BP


def _one_for_all(D_BPC: Tensor, largest_B11: Tensor, kept_B: Tensor | None) -> Tensor:
    D_KPC = D_BPC + largest_B11 if kept_B is None else D_BPC[kept_B] + largest_B11[kept_B]
    if len(D_KPC) == 0:
        return D_BPC.new_full(D_BPC.shape[:2], 1 / D_BPC.shape[1])
    return interior_point(D_KPC.transpose(0, 1).unsqueeze(0)).expand(D_BPC.shape[:2])


def _without_reading(D_BPC: Tensor, per_batch: bool, kept_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights [B, P] and certificates [B] by operations whose shapes and number no value has a say in."""
    B, P, _ = D_BPC.shape
    if not per_batch:
        return interior_fixed(D_BPC.unsqueeze(2))
    share: Tensor | float = 1.0
    if kept_B is not None:
        # Logits of 0 give the same F whatever alpha is.
        D_BPC, share = torch.where(kept_B.view(B, 1, 1), D_BPC, 0), kept_B.double().mean()
    weights_1P, certified_1 = interior_fixed(D_BPC.transpose(0, 1).unsqueeze(0), share)
    return weights_1P.expand(B, P), certified_1.expand(B)


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
    if not read_freely(logits_PBC) or B == 0:
        return
    outside_B = (labels_B < 0) | (labels_B >= C)
    if bool(outside_B.any()):
        raise UserError(f"label {int(labels_B[outside_B][0])} with {C} classes: labels must be 0 to {C - 1}.")
    # Zero times anything finite is zero: one pass, and no sum that could overflow.
    if not bool((logits_PBC.detach() * 0).sum() == 0):
        peer = next(p for p, logits_BC in enumerate(logits_PBC) if not torch.isfinite(logits_BC).all())
        raise UserError(f"logits of peer {peer} hold NaN or infinity: give finite logits, or leave this peer out.")
