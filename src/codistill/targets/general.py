"""KDCL-General: one weight per student from a held-out part of the training set, the exact constrained minimum."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from codistill.errors import UserError

__all__ = ["error_covariance", "general_weights", "simplex_minimum"]

_Array = NDArray[np.float64]

# Differences between students that are smaller than this, relative to C, are rounding: C is singular there.
_RANK = 1e-13
# Entries of the residuals that are held at once (fp64): 32 MiB, whatever the held-out part's size.
_CHUNK = 1 << 22


@torch.no_grad()
def general_weights(probs_PNC: Tensor, labels_N: Tensor) -> Tensor:
    """w = argmin over the simplex of w^T C w, C_ij = 1/N sum_k <f_i(x_k) - t_k, f_j(x_k) - t_k> (KDCL, CVPR 2020).

    The closed form C^-1 1 / (1^T C^-1 1) is the answer only where it lies inside the simplex and C is regular; this is
    the constrained minimum in every case. Where several w reach it (equal students), the one of least norm is returned:
    the most even one, so students that are alike have the same weight.

    Args:
        probs_PNC: the students' probabilities f (softmax at T = 1) on the held-out samples, [P, N, C].
        labels_N: their class indices [N] (int64); t is one-hot.

    Returns:
        Weights [P] in fp64 on the device of `probs_PNC`, detached; non-negative, sum 1.

    Raises:
        UserError: shapes, types or devices do not fit; labels are out of range; entries are no probabilities.
    """
    _check(probs_PNC, labels_N)
    weights_P = simplex_minimum(error_covariance(probs_PNC, labels_N).cpu().numpy())
    return torch.from_numpy(weights_P).to(probs_PNC.device)


def error_covariance(probs_PNC: Tensor, labels_N: Tensor) -> Tensor:
    """C_ij = 1/N sum_k <f_i(x_k) - t_k, f_j(x_k) - t_k>, [P, N, C] and [N] -> [P, P] in fp64."""
    P, N, C = probs_PNC.shape
    rows = max(1, _CHUNK // (P * C))
    covariance_PP = probs_PNC.new_zeros(P, P, dtype=torch.float64)
    for start in range(0, N, rows):
        residual_PRC = probs_PNC[:, start : start + rows].double()
        labels_R = labels_N[start : start + rows]
        # The conversion copies unless the input is fp64 already, and the input must stay as it is.
        if residual_PRC.data_ptr() == probs_PNC[:, start : start + rows].data_ptr():
            residual_PRC = residual_PRC.clone()
        residual_PRC[:, torch.arange(len(labels_R), device=labels_R.device), labels_R] -= 1
        flat_PM = residual_PRC.flatten(1)
        covariance_PP += flat_PM @ flat_PM.T
    return covariance_PP / N


def simplex_minimum(matrix_PP: _Array) -> _Array:
    """argmin over the simplex of w^T C w for a positive semi-definite C [P, P]; the least norm where several are.

    The optimality conditions (C w)_i >= w^T C w, equal where w_i > 0, hold to about 1e-12 of the largest entry of C.
    """
    scale = float(np.abs(matrix_PP).max())
    if scale == 0:
        return np.full(len(matrix_PP), 1 / len(matrix_PP))
    # Students that are alike in C are alike in the problem, whatever the last bits say: one order of summation.
    C_PP = (matrix_PP + matrix_PP.T) / (2 * scale)
    return _least_norm(C_PP, _active_set_minimum(C_PP))


def _active_set_minimum(C_PP: _Array) -> _Array:
    """A minimiser, by Wolfe's algorithm: the nearest point of a convex hull (finite, any P, no inverse of C)."""
    P = len(C_PP)
    used = [int(np.argmin(np.diag(C_PP)))]
    w_P = np.zeros(P)
    w_P[used] = 1.0
    value = C_PP[used[0], used[0]]
    while True:
        slope_P = C_PP @ w_P - w_P @ C_PP @ w_P
        enters = int(np.argmin(slope_P))
        if slope_P[enters] >= -4 * np.finfo(float).eps or enters in used:
            return w_P
        used.append(enters)
        new_P = _minimum_on(C_PP, w_P.copy(), used)
        new_value = new_P @ C_PP @ new_P
        # The value falls at every change of face, so none comes twice; what no longer falls is rounding.
        if new_value >= value:
            return w_P
        w_P, value = new_P, new_value


def _minimum_on(C_PP: _Array, w_P: _Array, used: list[int]) -> _Array:
    """Minimise on the face of the students `used`, from w; students whose weight reaches zero leave `used`."""
    while True:
        n = len(used)
        kkt = np.ones((n + 1, n + 1))
        kkt[:n, :n] = C_PP[np.ix_(used, used)]
        kkt[n, n] = 0
        affine = np.linalg.lstsq(kkt, np.append(np.zeros(n), 1.0), rcond=np.finfo(float).eps)[0][:n]
        if (affine > 0).all():
            w_P[:] = 0
            w_P[used] = affine / affine.sum()
            return w_P
        now = w_P[used]
        falling = affine <= 0
        share = now[falling] / (now[falling] - affine[falling] + np.finfo(float).tiny)
        mixed = now + min(1.0, share.min()) * (affine - now)
        mixed[np.flatnonzero(falling)[share.argmin()]] = 0
        mixed[mixed < np.finfo(float).eps] = 0
        w_P[used] = mixed
        used[:] = [i for i, weight in zip(used, mixed, strict=True) if weight > 0]


def _least_norm(C_PP: _Array, w_P: _Array) -> _Array:
    """Among the minimisers, which are w + n with C n = 0, sum n = 0 on the optimal face, the one of least norm."""
    slope_P = C_PP @ w_P - w_P @ C_PP @ w_P
    face = np.flatnonzero((slope_P <= 10 * _RANK) | (w_P > 0))
    # All rows of C count, also those of students off the face: their conditions must hold after the move as before.
    _, sizes, rows = np.linalg.svd(np.vstack([C_PP[:, face], np.ones(len(face))]))
    null_Fk = rows[sizes <= _RANK * len(face)].T
    if null_Fk.shape[1] == 0:
        return w_P
    # w = fixed + null y >= 0 with |y| least is a least-distance problem: non-negative least squares (Lawson & Hanson).
    fixed_F = w_P[face] - null_Fk @ (null_Fk.T @ w_P[face])
    stacked = np.vstack([null_Fk.T, -fixed_F])
    target = np.append(np.zeros(null_Fk.shape[1]), 1.0)
    residual = stacked @ nnls(stacked, target)[0] - target
    even_F = fixed_F - null_Fk @ (residual[:-1] / residual[-1]) if residual[-1] else w_P[face]
    even_F = np.clip(even_F, 0, None)
    even_P = np.zeros_like(w_P)
    even_P[face] = even_F / even_F.sum()
    # Directions of rank rounding may still cost a little: never trade the minimum for evenness.
    even_slope_P = C_PP @ even_P - even_P @ C_PP @ even_P
    return even_P if even_slope_P.min() >= min(slope_P.min(), -10 * _RANK) else w_P


def _check(probs_PNC: Tensor, labels_N: Tensor) -> None:
    shape = list(probs_PNC.shape)
    if probs_PNC.ndim != 3 or not probs_PNC.is_floating_point() or 0 in shape:
        raise UserError(
            f"probabilities have shape {shape} and dtype {probs_PNC.dtype}: give floating point [P, N, C], none empty."
        )
    _, N, C = shape
    if labels_N.dtype != torch.int64 or list(labels_N.shape) != [N]:
        raise UserError(
            f"labels have shape {list(labels_N.shape)} and dtype {labels_N.dtype}: give int64 class indices, [{N}]."
        )
    if labels_N.device != probs_PNC.device:
        raise UserError(f"labels are on {labels_N.device}, probabilities on {probs_PNC.device}: move both to one.")
    low, high = (int(v) for v in torch.aminmax(labels_N))
    if low < 0 or high >= C:
        raise UserError(f"label {low if low < 0 else high} with {C} classes: labels must be 0 to {C - 1}.")
    lowest_P, highest_P = torch.aminmax(probs_PNC.detach().flatten(1), dim=1)
    for peer, (least, most) in enumerate(zip(lowest_P.tolist(), highest_P.tolist(), strict=True)):
        if not (least >= 0 and most <= 1 + 1e-2):
            raise UserError(
                f"probabilities of peer {peer} range from {least:g} to {most:g}: give values in [0, 1], the softmax of "
                "its logits."
            )
