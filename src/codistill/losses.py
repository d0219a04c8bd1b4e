"""Cross-entropy, soft KL and entropy as pure functions: one value per row, computed in fp32 or wider.

They take no mean over the batch, so that sample weights and ignored rows act in one place only: `weighted_mean`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cross_entropy", "entropy", "log_softmax", "read_freely", "soft_kl", "softmax", "weighted_mean", "wide"]


def wide(x: Tensor) -> Tensor:
    """Return half precision as fp32, and anything else unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def read_freely(x: Tensor) -> bool:
    """Whether the host may read values of `x`: on the CPU. On a device every reading waits for all queued work."""
    return x.device.type == "cpu"


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(z / T) over the last axis, [..., C] -> [..., C]; half precision is widened to fp32 first."""
    return functional.log_softmax(wide(logits) / temperature, dim=-1)


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """q' = softmax(z / T) over the last axis, [..., C] -> [..., C]; half precision is widened to fp32 first."""
    return functional.softmax(wide(logits) / temperature, dim=-1)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """-sum_c y_c log softmax(z)_c per row, [..., C] -> [...].

    Args:
        logits: [..., C].
        labels: class indices [...] (integer), or probabilities [..., C] (floating point; label smoothing, mixup).
        smoothing: ε; the labels are then (1 - ε) y + ε / C.
    """
    logp = log_softmax(logits)
    if labels.is_floating_point():
        loss = -(labels.to(logp.dtype) * logp).sum(-1)
    else:
        loss = -logp.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * logp.mean(-1)


def soft_kl(target_prob: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(t, softmax(z / T)) = sum_c t_c (log t_c - log q'_c) per row, [..., C] -> [...].

    The term t log t is included (0 log 0 = 0), since t may depend on parameters. The factor T² is not.
    Gradients reach `target_prob` too: detach it if the method says so.
    """
    # xlogy(t, t) has the gradient log t + 1, infinite at t = 0; the floor keeps it finite where t underflows.
    floor = torch.finfo(target_prob.dtype).tiny
    t_log_t = target_prob * target_prob.clamp_min(floor).log()
    return (t_log_t - target_prob * log_softmax(logits, temperature)).sum(-1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """H(softmax(z / T)) = -sum_c q'_c log q'_c per row, in nats, [..., C] -> [...]."""
    logp = log_softmax(logits, temperature)
    return -(logp.exp() * logp).sum(-1)


def weighted_mean(values: Tensor, weights_N: Tensor | None) -> Tensor:
    """Mean over the last axis, [..., N] -> [...]; with weights Σ w_n v_n / Σ w_n (0 if all weights are 0)."""
    if weights_N is None:
        return values.mean(-1)
    # A row of weight zero may have an infinite value (an ignored pixel), and 0 · inf is NaN: replace it by zero.
    kept = torch.where(weights_N > 0, values * weights_N, torch.zeros_like(values))
    return kept.sum(-1) / weights_N.sum().clamp_min(torch.finfo(values.dtype).tiny)
