"""PCL and SwitOKD once more, slowly: float64, Python loops over students, rows and classes; see reference.py."""

from __future__ import annotations

import math
from typing import Any

import torch
from reference import (
    Label,
    Reference,
    Vectors,
    all_ce,
    cross_entropy,
    distilled,
    kl,
    log_softmax,
    mean,
    softmax,
    total_of,
)
from torch import Tensor

NAMES = ("pcl", "switokd")


def run(name: str, x: Any, parameters: dict[str, Tensor], averaged: Tensor | None, w: float, given: dict) -> Reference:
    """The method's step on the rows `x` of the harness; `averaged` holds the averages' logits [P, B, ..., C]."""
    if name == "switokd":
        return switokd(x.z, x.y, x.r, given.get("teacher", 0))
    assert averaged is not None
    flat = averaged.double().reshape(len(x.z), len(x.y), -1)
    z_average = [[flat[i][n] for n in range(len(x.y))] for i in range(len(x.z))]
    return pcl(x.z, x.y, x.r, x.h, z_average, parameters["classifier.weight"], given.get("temperature", 3.0), w)


def pcl(
    z: Vectors, y: list[Label], r: list[float], h: Vectors, z_average: Vectors, W: Tensor, temperature: float, w: float
) -> Reference:
    """Σ CE(z_i) + CE(z_e) + w T² Σ_i [KL(q_e, q_i) + 1/(m-1) Σ_{j≠i} KL(q'_j, q_i)], z_e = W [h_1; ...; h_m]."""
    T, m = temperature, len(z)
    ensemble = []
    for n in range(len(y)):
        stacked = torch.cat([h[i][n] for i in range(m)])
        ensemble.append(torch.stack([(W[c] * stacked).sum() for c in range(W.shape[0])]))
    of_ensemble, of_averages = [], []
    for i in range(m):
        from_ensemble, from_averages = [], []
        for n in range(len(y)):
            log_q = log_softmax(z[i][n], T)
            from_ensemble.append(kl(softmax(ensemble[n], T).detach(), log_q))
            others = [kl(softmax(z_average[j][n], T).detach(), log_q) for j in range(m) if j != i]
            from_averages.append(total_of(others) / (m - 1))
        of_ensemble.append(mean(from_ensemble, r))
        of_averages.append(mean(from_averages, r))
    soft = [a + b for a, b in zip(of_ensemble, of_averages, strict=True)]
    out = distilled(all_ce(z, y, r), soft, w * T * T)
    ce_ensemble = mean([cross_entropy(ensemble[n], y[n]) for n in range(len(y))], r)
    kinds = {"ce_ensemble": ce_ensemble, "kd_ensemble": total_of(of_ensemble), "kd_average": total_of(of_averages)}
    return Reference(out.loss + ce_ensemble, out.loss_by_peer, {"ce": out.parts["ce"], **kinds})


def distance(p: list[float], q: list[float]) -> float:
    """‖p - q‖₁ of one row."""
    return math.fsum(abs(a - b) for a, b in zip(p, q, strict=True))


def paused(z: Vectors, y: list[Label], r: list[float], teacher: int) -> bool:
    """G > δ and d_t < d_s, with δ = d_s - ε d_t and ε = exp(-d_t / (d_t + d_s))."""
    p = [[[float(v) for v in softmax(row.detach())] for row in rows] for rows in z]
    y_one_hot = [[float(c == label) for c in range(len(z[0][0]))] for label in y]
    rows = [n for n in range(len(y)) if r[n] > 0]

    def batch_mean(a: list[list[float]], b: list[list[float]]) -> float:
        return math.fsum(r[n] * distance(a[n], b[n]) for n in rows) / math.fsum(r)

    d_t, d_s = batch_mean(p[teacher], y_one_hot), batch_mean(p[1 - teacher], y_one_hot)
    gap = batch_mean(p[0], p[1])
    threshold = d_s - math.exp(-d_t / (d_t + d_s)) * d_t
    return gap > threshold and d_t < d_s


def switokd(z: Vectors, y: list[Label], r: list[float], teacher: int) -> Reference:
    """L_i = CE_i + KL(p_j, p_i), targets detached. The loss leaves out a paused network, the parts do not."""
    ce = all_ce(z, y, r)
    soft = []
    for i in (0, 1):
        rows = [kl(softmax(z[1 - i][n]).detach(), log_softmax(z[i][n])) for n in range(len(y))]
        soft.append(mean(rows, r))
    out = distilled(ce, soft, 1.0)
    stops = paused(z, y, r, teacher)
    if stops:
        out.loss_by_peer[teacher] = torch.zeros((), dtype=torch.float64)
        out.loss = out.loss_by_peer[1 - teacher]
    out.extra["paused"] = stops
    return out
