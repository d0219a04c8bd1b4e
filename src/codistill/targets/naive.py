"""KDCL-Naive: the best student of each sample is the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from codistill.losses import cross_entropy

__all__ = ["naive"]


def naive(logits_PBC: Tensor, labels: Tensor) -> Tensor:
    """z_t = z_k with k = argmin_i CE(z_i, y), per sample; the first student where several are equal.

    Args:
        logits_PBC: [P, B, C].
        labels: class indices [B], or probabilities [B, C].

    Returns:
        The target's logits [B, C], detached (KDCL, CVPR 2020).
    """
    logits_PBC = logits_PBC.detach()
    P, B = logits_PBC.shape[:2]
    loss_PB = cross_entropy(logits_PBC, labels.expand(P, *labels.shape))
    best_B = loss_PB.argmin(dim=0)
    return logits_PBC[best_B, torch.arange(B, device=logits_PBC.device)]
