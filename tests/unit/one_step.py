"""The views of one training step, for tests of what a step shows the networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codistill.data import AugmentPolicy, ImageSet, training_views


def step_views(
    images_u8_BCHW: Tensor,
    policy: AugmentPolicy,
    *,
    count: int = 1,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[Tensor, ...]:
    """`count` views of the whole batch; without constants a normalised pixel is the pixel's value."""
    B, channels = images_u8_BCHW.shape[:2]
    images = ImageSet(images_u8_BCHW, torch.zeros(B, dtype=torch.int64))
    constants = tuple(mean or (0.0,) * channels), tuple(std or (1 / 255,) * channels)
    generator = torch.Generator().manual_seed(seed)
    steps = training_views(
        images, [torch.arange(B)], policy, *constants, views=count, generator=generator, workers=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    ((views, _),) = list(steps)
    return views
