"""From uint8 pixels to the normalised floats that the networks read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Normaliser", "normalise"]

_FEW_PIXELS = 2**21


def normalise(
    images_u8: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
    out: Tensor | None = None,
) -> Tensor:
    """Return (x / 255 - mean) / std as float32 on `device`, for uint8 [..., C, H, W]: the images of evaluation.

    Args:
        images_u8: on any device.
        mean: one number per channel, for images scaled to 0..1.
        std: likewise.
        device: where the result goes.
        out: memory for the result: float32 in the images' shape, on the device, contiguous or channels-last.
    """
    normaliser = _normaliser(tuple(mean), tuple(std), torch.device(device))
    images = images_u8.to(device, non_blocking=True)
    if out is None:
        out = torch.empty(images.shape, device=device)
    image = images.shape[-3:]
    pixels, result = images.reshape(-1, *image), out.view(-1, *image)
    # A few images at a time stay in the processor's cache.
    few = max(_FEW_PIXELS // image.numel(), 1) if out.device.type == "cpu" else len(pixels)
    for some, part in zip(pixels.split(few), result.split(few), strict=True):
        normaliser.write(part, some)
    return out


class Normaliser:
    """A data set's mean and deviation in units of 0 to 255, kept on a device: copying them would delay every step."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        both = torch.tensor([mean, std], dtype=torch.float64) * 255
        self.shift, self.scale = both.to(torch.float32).to(device)[:, :, None, None]
        self.rows: dict[int, tuple[Tensor, Tensor]] = {}

    def write(self, out_NCHW: Tensor, images_NCHW: Tensor) -> None:
        """Write the normalised images into float32 memory of their shape on the device, contiguous or channels-last.

        The two layouts may differ in the last bit.
        """
        if out_NCHW.is_contiguous():
            out_NCHW.copy_(images_NCHW).sub_(self.shift).div_(self.scale)
            return
        # In rows [N, H, W*C] the constants lie in memory like the pixels, and one operation does the work of two.
        out, images = (x_NCHW.permute(0, 2, 3, 1).flatten(2) for x_NCHW in (out_NCHW, images_NCHW))
        black, scale = self._rows(out_NCHW.shape[-1])
        torch.addcdiv(black, out.copy_(images), scale, out=out)

    def _rows(self, width: int) -> tuple[Tensor, Tensor]:
        if width not in self.rows:
            black, scale = (-self.shift / self.scale).flatten(), self.scale.flatten()
            self.rows[width] = black.repeat(width), scale.repeat(width)
        return self.rows[width]


@lru_cache(maxsize=16)
def _normaliser(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Normaliser:
    return Normaliser(mean, std, device)
