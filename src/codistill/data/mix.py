"""mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019): images of a batch in pairs, labels as probabilities."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ALPHA", "mix_views"]

ALPHA = {"mixup": 0.2, "cutmix": 1.0}
"""Default α of Beta(α, α)."""


def mix_views(
    views: tuple[Tensor, ...],
    labels_B: Tensor,
    num_classes: int,
    kind: str,
    alpha: float | None,
    generator: torch.Generator,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Mix every image with a partner of its batch, λ x + (1 - λ) x_partner, or a rectangle of it.

    One draw of λ, partners and rectangle serves all views: students with views of their own see different
    distortions of the same mixed pair, so that one label is right for all.

    Args:
        views: float [B, C, H, W] each; left as they are.
        labels_B: class indices.
        num_classes: C.
        kind: "mixup" or "cutmix".
        alpha: of Beta(α, α), from which λ is drawn once a batch; None: `ALPHA`.
        generator: CPU generator.

    Returns:
        The mixed views, and λ y + (1 - λ) y_partner, float32 [B, C]; in cutmix λ is the exact share of pixels kept.
    """
    alpha = ALPHA[kind] if alpha is None else alpha
    partner_B = torch.randperm(len(labels_B), generator=generator).to(labels_B.device, non_blocking=True)
    # torch draws no beta variate from a generator that is passed in.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    H, W = views[0].shape[-2:]
    if kind == "mixup":
        mixed = tuple(view.lerp(view[partner_B], 1 - share) for view in views)
    else:
        top, left, bottom, right = _rectangle(share, H, W, generator)
        mixed = tuple(view.clone() for view in views)
        for view, source in zip(mixed, views, strict=True):
            view[..., top:bottom, left:right] = source[partner_B, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (H * W)
    prob_BC = functional.one_hot(labels_B, num_classes).float()
    return mixed, prob_BC.lerp(prob_BC[partner_B], 1 - share)


def _rectangle(share: float, H: int, W: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A rectangle of 1 - share of the area around a uniform centre, cut off at the image's edge."""
    side = math.sqrt(1 - share)
    y, x = (int(torch.randint(n, (), generator=generator)) for n in (H, W))
    half_h, half_w = int(H * side) // 2, int(W * side) // 2
    return max(y - half_h, 0), max(x - half_w, 0), min(y + half_h, H), min(x + half_w, W)
