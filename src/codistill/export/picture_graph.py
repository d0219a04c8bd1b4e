"""`codistill.prepare` as a graph of tensor operations, for pictures that are upright and in grey or RGB already."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codistill.rundir import Preparation

__all__ = ["PictureGraph"]


class PictureGraph(nn.Module):
    """Maps uint8 pictures [B, H, W, C] to what the network reads, float32 [B, C, height, width].

    Pillow resizes one axis after the other by a triangle filter, and rounds to 8 bits after each. Here an axis is a
    product with a matrix of the filter's weights, which torch can export for any H and W. A pixel in thousands ends one
    grey level off, where a value lies on the edge of rounding.
    """

    def __init__(self, how: Preparation) -> None:
        super().__init__()
        self.how = how
        self.shift: Tensor
        self.scale: Tensor
        both = torch.tensor([how.mean, how.std], dtype=torch.float64) * 255
        self.register_buffer("shift", both[0].float()[:, None, None])
        self.register_buffer("scale", both[1].float()[:, None, None])

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        sides = [torch.full((), pictures.shape[axis], dtype=torch.int64) for axis in (1, 2)]
        x_BCHW = pictures.permute(0, 3, 1, 2).float()
        x_BCHw = _eight_bits(x_BCHW @ self._weights(sides, pictures.shape[2], 1).T)
        x_BChw = _eight_bits(self._weights(sides, pictures.shape[1], 0) @ x_BCHw)
        return (x_BChw - self.shift) / self.scale

    def _weights(self, sides: list[Tensor], pixels: int, axis: int) -> Tensor:
        """How much each of the `pixels` of an axis counts in each of those that are wanted: [wanted, pixels]."""
        start, step = self._window(sides, axis)
        wanted = (self.how.height, self.how.width)[axis]
        centre_w1 = (start + (torch.arange(wanted) + 0.5) * step)[:, None]
        distance_wW = (torch.arange(pixels) + 0.5 - centre_w1).abs() / step.clamp(min=1)
        weight_wW = (1 - distance_wW).clamp(min=0)
        return weight_wW / weight_wW.sum(1, keepdim=True)

    def _window(self, sides: list[Tensor], axis: int) -> tuple[Tensor, Tensor]:
        """Where on an axis the first wanted pixel begins, and how far the next one is, in pixels of the picture."""
        how = self.how
        wanted = how.height, how.width
        if how.resize == "cover":
            step = torch.minimum(sides[0] / wanted[0], sides[1] / wanted[1])
            return (sides[axis] - step * wanted[axis]) / 2, step
        if how.shorter_side is not None:
            shorter = torch.minimum(sides[0], sides[1])
            resized = torch.div(how.shorter_side * sides[axis], shorter, rounding_mode="floor")
            step = sides[axis] / resized
            return ((resized - wanted[axis]) / 2).round() * step, step
        return torch.zeros(()), sides[axis] / wanted[axis]


def _eight_bits(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255)
