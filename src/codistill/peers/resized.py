"""A frozen network in front of which images are turned into those that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Resized"]


class Resized(nn.Module):
    """Undoes one normalisation, resizes (bilinear with antialias), applies another, and runs the network.

    Args:
        network: takes images [B, C, height, width] of its own normalisation.
        given: mean and deviation per channel of the images that come in, of pixels scaled to 0..1.
        wanted: mean and deviation of the images that the network was trained on.
        size: their height and width in pixels; None: the images keep their size.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        given: tuple[Sequence[float], Sequence[float]],
        wanted: tuple[Sequence[float], Sequence[float]],
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.size = network, size
        (mean, std), (own_mean, own_std) = (torch.tensor(list(both), dtype=torch.float64) for both in (given, wanted))
        # (x * std + mean - own_mean) / own_std, as one multiplication and one addition.
        self.register_buffer("scale", (std / own_std).float()[:, None, None], persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).float()[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] as the run normalises them -> logits of the network."""
        if self.size is not None and x.shape[-2:] != self.size:
            x = functional.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        return self.network(x * self.scale + self.shift)
