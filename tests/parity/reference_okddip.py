"""OKDDip with all of its options, slowly (see reference.py): two levels, attention, five ablations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from reference import (
    Label,
    Reference,
    Vectors,
    all_ce,
    entropy,
    kl,
    log_softmax,
    mean,
    softmax,
    total_of,
)
from torch import Tensor


@dataclass
class Options:
    """The keywords of okddip; `alpha` gives the attention [A, A] of every row for the ablation `random`."""

    temperature: float = 3.0
    aggregate: str = "probabilities"
    leader_target: str = "probabilities"
    gradient: str = "attention"
    include_self: bool = False
    target_epsilon: float = 0.0
    ablation: str | None = None
    entropy_weight: float = 0.1
    alpha: list[Tensor] | None = None


def attention_row(a: int, n: int, h: Vectors, left: list[Tensor], right: list[Tensor], o: Options, A: int) -> dict:
    """α_ab of peer a on row n: softmax over b of L(h_a)ᵀE(h_b), unscaled; {b: α_ab}. A peer alone attends to itself."""
    others = [b for b in range(A) if o.include_self or b != a or A == 1]
    if o.ablation == "mean":
        return {b: torch.tensor(1.0 / len(others), dtype=torch.float64) for b in others}
    if o.ablation == "random":
        assert o.alpha is not None
        return {b: o.alpha[n][a, b] for b in others}
    scores = []
    for b in others:
        if o.ablation == "asymmetry":  # W_L = W_E = I
            scores.append((h[a][n] * h[b][n]).sum())
        else:
            score = torch.zeros((), dtype=torch.float64)
            for k in range(left[a].shape[0]):  # L(h_a)_k = Σ_d W_L[k, d] h_a[d]
                score = score + (left[a][k] * h[a][n]).sum() * (right[b][k] * h[b][n]).sum()
            scores.append(score)
    alpha = softmax(torch.stack(scores))
    if o.gradient == "none":
        alpha = alpha.detach()
    return {b: alpha[k] for k, b in enumerate(others)}


def mixture(weights: dict[int, Tensor], z: Vectors, n: int, space: str, o: Options) -> Tensor:
    """Σ_b α_b q'_b, or softmax(Σ_b α_b z_b / T); the peers' predictions detached unless gradient = "all"."""
    total = torch.zeros_like(z[0][n])
    for b, weight in weights.items():
        prediction = softmax(z[b][n], o.temperature) if space == "probabilities" else z[b][n]
        if o.gradient != "all":
            prediction = prediction.detach()
        total = total + weight * prediction
    target = total if space == "probabilities" else softmax(total, o.temperature)
    return target + o.target_epsilon


def okddip(
    z: Vectors,
    y: list[Label],
    r: list[float],
    h: Vectors,
    left: list[Tensor],
    right: list[Tensor],
    w: float,
    o: Options,
) -> Reference:
    """L = Σ_a CE_a + w T² Σ_a KL(t_a, q'_a) + w T² KL(t_m, q'_m); the last student is the leader."""
    T, m = o.temperature, len(z)
    has_leader = o.ablation != "no_two_level"
    A = m - 1 if has_leader else m
    rows = range(len(y))
    ce = all_ce(z, y, r)
    by_peer = list(ce)
    parts = {"ce": total_of(ce)}
    if o.ablation == "entropy":
        parts["entropy"] = torch.zeros((), dtype=torch.float64)
        for a in range(A):
            bonus = mean([entropy(z[a][n]) for n in rows], r)
            by_peer[a] = ce[a] - o.entropy_weight * bonus
            parts["entropy"] = parts["entropy"] + bonus
    else:
        parts["dis1"] = torch.zeros((), dtype=torch.float64)
        for a in range(A):
            values = []
            for n in rows:
                t = mixture(attention_row(a, n, h, left, right, o, A), z, n, o.aggregate, o)
                values.append(kl(t, log_softmax(z[a][n], T)))
            dis1 = mean(values, r)
            by_peer[a] = ce[a] + w * T * T * dis1
            parts["dis1"] = parts["dis1"] + dis1
    if has_leader:
        equal = {b: torch.tensor(1.0 / A, dtype=torch.float64) for b in range(A)}
        values = [kl(mixture(equal, z, n, o.leader_target, o), log_softmax(z[A][n], T)) for n in rows]
        parts["dis2"] = mean(values, r)
        by_peer[A] = ce[A] + w * T * T * parts["dis2"]
    return Reference(total_of(by_peer), by_peer, parts)
