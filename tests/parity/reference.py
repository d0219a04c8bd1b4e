"""Every method once more, slowly: float64, Python loops over students and rows, the equations of the papers.

Written from the equations alone, without a look at src/codistill/methods or src/codistill/targets. A row is one image
(or one position of a dense prediction). Gradients come from autograd through these scalar operations; `.detach()`
stands exactly where the method cards (docs/methods) put a stop-gradient. Target rules are in reference_targets.py,
OKDDip in reference_okddip.py.

    z[i][n]  logits of student i on row n, a vector [C]        h[i][n]  its features, a vector [D_i]
    y[n]     the label of row n: an int, or probabilities [C]   r[n]    the row's weight in every mean (0: ignored)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

Vectors = list[list[Tensor]]  # [student][row] -> vector
Label = int | Tensor


@dataclass
class Target:
    """How a target is made of several predictions: the mean of what, what gets gradient, what is added to a class."""

    aggregate: str = "probabilities"
    gradient: str = "none"
    target_epsilon: float = 0.0

    def of(self, shares: list[Tensor | float], z: list[Tensor], T: float) -> Tensor:
        """Σ_j s_j softmax(z_j / T), or softmax(Σ_j s_j z_j / T), detached unless gradient = "all", plus epsilon."""
        total = torch.zeros_like(z[0])
        for share, vector in zip(shares, z, strict=True):
            total = total + share * (softmax(vector, T) if self.aggregate == "probabilities" else vector)
        return self.finish(total if self.aggregate == "probabilities" else softmax(total, T))

    def finish(self, t: Tensor) -> Tensor:
        """A target as it enters KL; the constant makes its sum 1 + C epsilon, and KL takes it as it is."""
        return (t if self.gradient == "all" else t.detach()) + self.target_epsilon


@dataclass
class Reference:
    """What a method gives back, as the reference computes it."""

    loss: Tensor
    loss_by_peer: list[Tensor]
    parts: dict[str, Tensor]
    extra: dict[str, object] = field(default_factory=dict)


# The elements.


def log_softmax(z: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(z / T) of one vector."""
    scaled = z / temperature
    largest = max(float(v) for v in scaled.detach())  # cancels in the value and in the gradient
    total = torch.zeros((), dtype=z.dtype)
    for c in range(len(z)):
        total = total + torch.exp(scaled[c] - largest)
    return scaled - largest - torch.log(total)


def softmax(z: Tensor, temperature: float = 1.0) -> Tensor:
    """softmax(z / T) of one vector."""
    return torch.exp(log_softmax(z, temperature))


def cross_entropy(z: Tensor, y: Label) -> Tensor:
    """-Σ_c y_c log softmax(z)_c of one row."""
    logp = log_softmax(z)
    if isinstance(y, int):
        return -logp[y]
    return -sum(float(y[c]) * logp[c] for c in range(len(z)))


def kl(t: Tensor, log_q: Tensor) -> Tensor:
    """KL(t, q) = Σ_c t_c log(t_c / q_c) of one row; 0 log 0 = 0."""
    total = torch.zeros((), dtype=log_q.dtype)
    for c in range(len(t)):
        if float(t[c].detach()) > 0:
            total = total + t[c] * (torch.log(t[c]) - log_q[c])
    return total


def entropy(z: Tensor) -> Tensor:
    """H(softmax(z)) of one row."""
    logp = log_softmax(z)
    return -sum(torch.exp(logp[c]) * logp[c] for c in range(len(z)))


def mean(values: list[Tensor], r: list[float]) -> Tensor:
    """Σ_n r_n v_n / Σ_n r_n; the batch mean where all r are 1."""
    total = torch.zeros((), dtype=torch.float64)
    for value, weight in zip(values, r, strict=True):
        if weight > 0:
            total = total + weight * value
    return total / sum(r)


def ramp_up_weight(fraction: float, ramp_up: float) -> float:
    """w = exp(-5 (1 - min(fraction / ramp_up, 1))²); 1 without a ramp-up."""
    if ramp_up == 0:
        return 1.0
    return math.exp(-5 * (1 - min(fraction / ramp_up, 1.0)) ** 2)


def all_ce(z: Vectors, y: list[Label], r: list[float]) -> list[Tensor]:
    """Each student's batch-mean cross-entropy."""
    return [mean([cross_entropy(z[i][n], y[n]) for n in range(len(y))], r) for i in range(len(z))]


def total_of(values: list[Tensor]) -> Tensor:
    """The sum over the students."""
    total = torch.zeros((), dtype=torch.float64)
    for v in values:
        total = total + v
    return total


def distilled(ce: list[Tensor], kd: list[Tensor], weight: float) -> Reference:
    """L_i = CE_i + weight · KD_i; L = Σ L_i; parts are the unweighted sums."""
    by_peer = [c + weight * k for c, k in zip(ce, kd, strict=True)]
    return Reference(total_of(by_peer), by_peer, {"ce": total_of(ce), "kd": total_of(kd)})


# The methods.


def independent(z: Vectors, y: list[Label], r: list[float]) -> Reference:
    """Baseline and ind: cross-entropy only."""
    ce = all_ce(z, y, r)
    return Reference(total_of(ce), ce, {"ce": total_of(ce)})


def kd(
    z: Vectors,
    y: list[Label],
    r: list[float],
    teachers: Vectors,
    temperature: float,
    weight: float,
    shares: list[float] | None = None,
) -> Reference:
    """CE + λT² KL(softmax(z_teacher/T), softmax(z/T)); several teachers: the mean of their softened predictions.

    `shares` says how much every teacher counts in the mean; equally if None.
    """
    K = len(teachers)
    v = [1 / K] * K if shares is None else shares
    T = temperature
    soft = []
    for i in range(len(z)):
        rows = []
        for n in range(len(y)):
            t = total_of([v[k] * softmax(teachers[k][n], T) for k in range(K)]).detach()
            rows.append(kl(t, log_softmax(z[i][n], T)))
        soft.append(mean(rows, r))
    return distilled(all_ce(z, y, r), soft, weight * T * T)


def dml(
    z: Vectors, y: list[Label], r: list[float], temperature: float, target: str, options: Target | None = None
) -> Reference:
    """L_i = CE_i + T²/(m-1) Σ_{j≠i} KL(p_j, p_i), or CE_i + T² KL(mean_{j≠i} p_j, p_i); the p_j detached by default."""
    T, m, o = temperature, len(z), options or Target()
    soft = []
    for i in range(m):
        others = [j for j in range(m) if j != i]
        rows = []
        for n in range(len(y)):
            log_q = log_softmax(z[i][n], T)
            if target == "mean":
                rows.append(kl(o.of([1 / (m - 1)] * (m - 1), [z[j][n] for j in others], T), log_q))
            else:
                rows.append(sum(kl(o.finish(softmax(z[j][n], T)), log_q) for j in others) / (m - 1))
        soft.append(mean(rows, r))
    return distilled(all_ce(z, y, r), soft, T * T)


def collaborative(
    z: Vectors, y: list[Label], r: list[float], temperature: float, w: float, options: Target | None = None
) -> Reference:
    """CL-ILR and CLNN: a head's target is the mean of the OTHER heads' softened predictions, by default detached."""
    T, m, o = temperature, len(z), options or Target()
    soft = []
    for i in range(m):
        rows = []
        for n in range(len(y)):
            t = o.of([1 / (m - 1)] * (m - 1), [z[j][n] for j in range(m) if j != i], T)
            rows.append(kl(t, log_softmax(z[i][n], T)))
        soft.append(mean(rows, r))
    return distilled(all_ce(z, y, r), soft, w * T * T)


def gate_of_one(
    trunk: list[Tensor], weight: Tensor, scale: Tensor, shift: Tensor, eps: float, statistics: Tensor | None = None
) -> list[Tensor]:
    """g = softmax(ReLU(BN(W trunk))), one vector over the branches per image.

    Batch statistics (biased variance) unless `statistics` gives [mean, variance] of every branch.
    """
    m, B = weight.shape[0], len(trunk)
    raw = [[(weight[p] * trunk[b]).sum() for p in range(m)] for b in range(B)]
    gates = []
    for p in range(m):
        column = [raw[b][p] for b in range(B)]
        if statistics is None:
            mu = sum(column) / B
            variance = sum((v - mu) ** 2 for v in column) / B
        else:
            mu, variance = statistics[0, p], statistics[1, p]
        for b in range(B):
            raw[b][p] = torch.relu((column[b] - mu) / torch.sqrt(variance + eps) * scale[p] + shift[p])
    for b in range(B):
        gates.append(softmax(torch.stack(raw[b])))
    return gates


def one(
    z: Vectors,
    y: list[Label],
    r: list[float],
    gates: list[Tensor],
    image_of: list[int],
    temperature: float,
    w: float,
    options: Target | None = None,
) -> Reference:
    """L = Σ CE(z_i) + CE(z_e) + w T² Σ KL(t, softmax(z_i/T)), z_e = Σ g_i z_i.

    t = softmax(z_e/T), or Σ g_i softmax(z_i/T) for aggregate = "probabilities"; by default detached, the gate included.
    """
    T, m, o = temperature, len(z), options or Target(aggregate="logits")
    ensemble, targets = [], []
    for n in range(len(y)):
        g = gates[image_of[n]]
        ensemble.append(sum(g[i] * z[i][n] for i in range(m)))
        targets.append(o.of([g[i] for i in range(m)], [z[i][n] for i in range(m)], T))
    soft = []
    for i in range(m):
        rows = [kl(targets[n], log_softmax(z[i][n], T)) for n in range(len(y))]
        soft.append(mean(rows, r))
    out = distilled(all_ce(z, y, r), soft, w * T * T)
    ce_ensemble = mean([cross_entropy(ensemble[n], y[n]) for n in range(len(y))], r)
    out.parts["ce_ensemble"] = ce_ensemble
    out.loss = out.loss + ce_ensemble
    return out


def kdcl(
    z: Vectors, y: list[Label], r: list[float], targets: list[Tensor], temperature: float, weight: float
) -> Reference:
    """L = Σ_i CE_i + λT² KL(softmax(z_t/T), softmax(z_i/T)), one detached target z_t for all students."""
    T = temperature
    soft = []
    for i in range(len(z)):
        rows = [kl(softmax(targets[n], T).detach(), log_softmax(z[i][n], T)) for n in range(len(y))]
        soft.append(mean(rows, r))
    return distilled(all_ce(z, y, r), soft, weight * T * T)
