"""KDCL's target rules, slowly (see reference.py): loops, enumeration of supports, bisection."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from reference import Label, Vectors, cross_entropy
from torch import Tensor


def naive(z: Vectors, y: list[Label]) -> list[Tensor]:
    """z_t = z_k, k = argmin_i CE(z_i, y), row by row."""
    targets = []
    for n in range(len(y)):
        ce = [float(cross_entropy(zi[n].detach(), y[n])) for zi in z]
        best = 0
        for i in range(1, len(z)):
            if ce[i] < ce[best]:
                best = i
        targets.append(z[best][n].detach())
    return targets


def minlogit(z: Vectors, y: list[Label]) -> list[Tensor]:
    """z_t[j] = min_i (z_i[j] - z_i[y])."""
    targets = []
    for n in range(len(y)):
        c = y[n]
        assert isinstance(c, int)
        least = [min(float(zi[n][j].detach()) - float(zi[n][c].detach()) for zi in z) for j in range(len(z[0][n]))]
        targets.append(torch.tensor(least, dtype=torch.float64))
    return targets


Matrix = list[list[float]]  # [student][class], the logits of one row


def _slope_of_row(Z: Matrix, label: int, alpha: list[float]) -> tuple[float, list[float]]:
    """CE(αᵀZ, y) and its gradient g_i = Σ_c Z_ic (p_c - e_c), of one row."""
    C = len(Z[0])
    mixed = [math.fsum(alpha[i] * Z[i][c] for i in range(len(Z))) for c in range(C)]
    top = max(mixed)
    total = math.fsum(math.exp(v - top) for v in mixed)
    p = [math.exp(v - top) / total for v in mixed]
    # Σ_c p_c = 1, so Z_iy can go inside: no cancellation of large logits.
    g = [math.fsum(p[c] * (Zi[c] - Zi[label]) for c in range(C)) for Zi in Z]
    return top + math.log(total) - mixed[label], g


def slope(rows: list[Matrix], labels: list[int], alpha: list[float]) -> tuple[float, list[float]]:
    """The mean of CE(αᵀZ_n, y_n) over the rows that share one α, and its gradient."""
    each = [_slope_of_row(Z, y, alpha) for Z, y in zip(rows, labels, strict=True)]
    N = len(each)
    return math.fsum(e[0] for e in each) / N, [math.fsum(e[1][i] for e in each) / N for i in range(len(alpha))]


def gap(rows: list[Matrix], labels: list[int], alpha: list[float]) -> float:
    """αᵀg - min_i g_i: by convexity no point of the simplex is better by more than this."""
    _, g = slope(rows, labels, alpha)
    return math.fsum(a * v for a, v in zip(alpha, g, strict=True)) - min(g)


def objective(rows: list[Matrix], labels: list[int], alpha: list[float]) -> float:
    """The mean of CE(αᵀZ_n, y_n)."""
    return slope(rows, labels, alpha)[0]


def best_move(rows: list[Matrix], labels: list[int], alpha: list[float], i: int, j: int) -> list[float]:
    """The minimum on the line from α (downhill) to the point where student i has taken all weight of student j."""

    def trial(step: float) -> list[float]:
        moved = list(alpha)
        moved[i], moved[j] = alpha[i] + step, (0.0 if step == alpha[j] else alpha[j] - step)
        return moved

    def rises(step: float) -> bool:
        _, g = slope(rows, labels, trial(step))
        return g[i] > g[j]

    low, high = 0.0, alpha[j]
    if not rises(high):
        return trial(high)
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if rises(middle) else (middle, high)
    return trial(low)


def linear_weights(rows: list[Matrix], labels: list[int], tolerance: float = 1e-14, steps: int = 5000) -> list[float]:
    """argmin over the simplex of CE(αᵀZ, y): weight is moved between the worst pair of students.

    Every step minimises exactly (bisection of the slope) along the line that takes weight from the student with the
    largest gradient that has any and gives it to the one with the smallest; it ends when the gap closes. That holds
    for smooth problems; with logits of 1e4 the objective has kinks at which no pair helps: there, ask `gap`.
    """
    m = len(rows[0])
    alpha = [1.0 / m] * m
    tolerance *= max(1.0, max(abs(v) for Z in rows for Zi in Z for v in Zi))
    for _ in range(steps):
        _, g = slope(rows, labels, alpha)
        i = min(range(m), key=lambda k: g[k])
        j = max((k for k in range(m) if alpha[k] > 0), key=lambda k: g[k])
        if g[j] - g[i] <= tolerance:
            break
        moved = best_move(rows, labels, alpha, i, j)
        if moved == alpha:
            break
        alpha = moved
    return alpha


def mix(z: Vectors, n: int, weights: list[float]) -> Tensor:
    """Σ_i w_i z_i of one row."""
    total = torch.zeros_like(z[0][n])
    for i in range(len(z)):
        total = total + weights[i] * z[i][n].detach()
    return total


def linear(z: Vectors, y: list[Label], per_batch: bool = False) -> list[Tensor]:
    """z_t = αᵀZ with the best α of every row, or with one best α for all rows."""
    rows = [[[float(v) for v in zi[n].detach()] for zi in z] for n in range(len(y))]
    labels = [c for c in y if isinstance(c, int)]
    assert len(labels) == len(y)
    if per_batch:
        shared = linear_weights(rows, labels)
        return [mix(z, n, shared) for n in range(len(y))]
    return [mix(z, n, linear_weights([rows[n]], [labels[n]])) for n in range(len(y))]


def error_matrix(prob: Vectors, y: list[int]) -> np.ndarray:
    """C_ij = 1/N Σ_k Σ_c (f_i(x_k) - t_k)_c (f_j(x_k) - t_k)_c."""
    m, N, C = len(prob), len(y), len(prob[0][0])
    matrix = np.zeros((m, m))
    for i in range(m):
        for j in range(m):
            for k in range(N):
                for c in range(C):
                    t = 1.0 if c == y[k] else 0.0
                    matrix[i, j] += (float(prob[i][k][c]) - t) * (float(prob[j][k][c]) - t) / N
    return matrix


def simplex_minimum(matrix: np.ndarray) -> np.ndarray:
    """argmin wᵀCw over the simplex: the best feasible stationary point among all supports.

    On a smallest optimal support the stationary point is unique, so enumeration finds it for singular C too.
    """
    m = len(matrix)
    best, best_value = np.full(m, 1.0 / m), np.inf
    for size in range(1, m + 1):
        for support in itertools.combinations(range(m), size):
            s = list(support)
            system = np.zeros((size + 1, size + 1))
            system[:size, :size] = matrix[np.ix_(s, s)]
            system[:size, size] = system[size, :size] = 1.0
            w_s = np.linalg.lstsq(system, np.eye(size + 1)[size], rcond=None)[0][:size]
            if (w_s < -1e-12).any() or abs(w_s.sum() - 1) > 1e-9:
                continue
            w = np.zeros(m)
            w[s] = np.clip(w_s, 0, None)
            value = w @ matrix @ w
            if value < best_value - 1e-15:
                best, best_value = w, value
    return best
