"""mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019): images of a batch in pairs, labels as probabilities."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ALPHA", "mix_views"]

ALPHA = {"mixup": 0.2, "cutmix": 1.0}
"""Default α of the distribution Beta(α, α) of λ."""


def mix_views(
    views: tuple[Tensor, ...],
    labels_B: Tensor,
    num_classes: int,
    kind: str,
    alpha: float | None,
    generator: torch.Generator,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Mix every image with a partner from its batch: λ x + (1 - λ) x_partner, or paste a rectangle of the partner.

    λ, partners and rectangle are drawn once for all views. Students with their own views then see different distortions
    of the same mixed pair, and one label is right for all of them.

    Args:
        views: float [B, C, H, W] each; not changed.
        labels_B: class indices.
        num_classes: C.
        kind: "mixup" or "cutmix".
        alpha: λ is drawn from Beta(α, α) once per batch; None: `ALPHA`.
        generator: CPU generator.

    Returns:
        The mixed views, and λ y + (1 - λ) y_partner, float32 [B, C]; for cutmix λ is the exact share of pixels kept.
    """
    alpha = ALPHA[kind] if alpha is None else alpha
    partner_B = torch.randperm(len(labels_B), generator=generator).to(labels_B.device, non_blocking=True)
    # torch cannot draw from a beta distribution with a generator that is passed in.
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
    """A rectangle with 1 - share of the area around a uniformly drawn centre, cut off at the image's edge."""
    side = math.sqrt(1 - share)
    y, x = (int(torch.randint(n, (), generator=generator)) for n in (H, W))
    half_h, half_w = int(H * side) // 2, int(W * side) // 2
    return max(y - half_h, 0), max(x - half_w, 0), min(y + half_h, H), min(x + half_w, W)
