"""KDCL-MinLogit: the smallest logit of all students, after the label's own logit is shifted to zero."""

from __future__ import annotations

from torch import Tensor

from codistill.losses import wide

__all__ = ["minlogit"]


def minlogit(logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    """z_t[j] = min_i (z_i[j] - z_i[y]), per sample; the label's logit of the target is 0.

    Args:
        logits_PBC: [P, B, C].
        labels_B: class indices [B]; the shift needs the one true class, so probabilities are not defined here.

    Returns:
        The target's logits [B, C], detached (KDCL, CVPR 2020).
    """
    # Shifted in fp32 at least: in half precision the difference of two logits would round the target.
    logits_PBC = wide(logits_PBC.detach())
    index_PB1 = labels_B.expand(logits_PBC.shape[0], -1).unsqueeze(-1)
    return (logits_PBC - logits_PBC.gather(-1, index_PB1)).amin(dim=0)
