"""Images that are not kept in memory: a step decodes each image once, for all the views that it needs.

Random crops follow torchvision's RandomResizedCrop, which draws from the global generator and decodes once per view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.normalise import Normaliser

__all__ = ["LazyImages", "PixelReader", "crop_box", "shorter_side_of"]

_ATTEMPTS = 10
_RATIO = (3 / 4, 4 / 3)
_SHORT_SIDE = 256 / 224


class PixelReader(Protocol):
    """Decodes an image by its index; can be pickled, since every process of the loader gets a copy."""

    def __call__(self, index: int) -> Tensor:
        """Return uint8 [C, H, W], the same C for all images; UserError if the image cannot be decoded."""
        ...


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images with their labels, in files.

    Attributes:
        read: decodes an image.
        index_N: int64; which of the reader's images these are.
        labels_N: int64 class indices.
        channels: C, one or three.
        size: side in pixels of what the networks see.
        groups_N: int64, or None; images of one group are never on both sides of a split.
    """

    read: PixelReader
    index_N: Tensor
    labels_N: Tensor
    channels: int
    size: int
    groups_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the networks see."""
        return self.channels, self.size, self.size

    @property
    def shorter_side(self) -> int:
        """Pixels to which the shorter side is resized for evaluation, before the centre is cropped."""
        return shorter_side_of(self.size)

    def take(self, index_N: Tensor) -> LazyImages:
        """Return the images of these indices (int64 or a mask), in the order given."""
        groups = None if self.groups_N is None else self.groups_N[index_N]
        chosen = {"index_N": self.index_N[index_N], "labels_N": self.labels_N[index_N], "groups_N": groups}
        return replace(self, **chosen)

    def decode(self, index_B: Tensor) -> Tensor:
        """Return these images for evaluation: shorter side resized to 8/7 of `size`, centre crop; uint8."""
        vision = _vision()
        frames_BCHW = self._empty(len(index_B))
        for frame, index in zip(frames_BCHW, self.index_N[index_B].tolist(), strict=True):
            resized = vision.resize(self.read(index), [self.shorter_side], antialias=True)
            frame.copy_(vision.center_crop(resized, [self.size, self.size]))
        return frames_BCHW

    def decode_views(
        self,
        index_B: Tensor,
        views: int,
        min_area: float,
        flip: bool,
        generator: torch.Generator,
        normaliser: Normaliser | None = None,
        out: Tensor | None = None,
        rows: slice = slice(None),
    ) -> Tensor:
        """Return random resized crops (and flips) [V, B, C, size, size]; each image is decoded once.

        Args:
            index_B: which images.
            views: V.
            min_area: smallest share of an image's area that a crop takes; its sides have a ratio of 3/4 to 4/3.
            flip: whether half of the crops are mirrored.
            generator: CPU generator; equal states give equal crops.
            normaliser: turns each crop into float32 while it is in the processor's cache; None: crops stay uint8.
            out: an earlier result to write into, used if its shape fits: new memory costs as much as a crop.
            rows: of which images crops are made; those of the others hold anything, and the draws are the same.
        """
        B = len(index_B)
        draws_BVK = torch.rand(B, views, 2 * _ATTEMPTS + 3, generator=generator)
        out, write = self._place(views, B, normaliser, out)
        for b, index in list(enumerate(self.index_N[index_B].tolist()))[rows]:
            pixels_HWC = self.read(index).permute(1, 2, 0)
            for v, draw in enumerate(draws_BVK[b].tolist()):
                top, left, height, width = crop_box(draw, pixels_HWC.shape[0], pixels_HWC.shape[1], min_area)
                crop_HWC = pixels_HWC[top : top + height, left : left + width]
                crop_HWC = crop_HWC.flip(1) if flip and draw[-1] < 0.5 else crop_HWC.contiguous()
                # torch's fast resize needs the colours of a pixel next to each other, and strides that say so clearly.
                crop_1CHW = crop_HWC.unsqueeze(0).permute(0, 3, 1, 2)
                # A crop that is enlarged needs no smoothing, and without it the same result takes half the time.
                shrinks = max(height, width) > self.size
                made = functional.interpolate(crop_1CHW, (self.size, self.size), mode="bilinear", antialias=shrinks)
                write(out[v, b : b + 1], made)
        return out

    def _place(
        self, views: int, B: int, normaliser: Normaliser | None, out: Tensor | None
    ) -> tuple[Tensor, Callable[[Tensor, Tensor], object]]:
        """Memory [V, B, C, size, size] for views, `out` if its shape fits, and what writes images into a part of it."""
        if out is None or out.shape != (views, B, *self.shape):
            dtype = torch.uint8 if normaliser is None else torch.float32
            out = self._empty(views * B, dtype).unflatten(0, (views, B))
        return out, Tensor.copy_ if normaliser is None else normaliser.write

    def _empty(self, n: int, dtype: torch.dtype = torch.uint8) -> Tensor:
        # The colours of a pixel are next to each other in memory: decoders return them so, and resizing is fastest.
        return torch.empty(n, self.size, self.size, self.channels, dtype=dtype).permute(0, 3, 1, 2)


def shorter_side_of(size: int) -> int:
    """Return `LazyImages.shorter_side` of images that the networks see at `size` pixels."""
    return round(size * _SHORT_SIDE)


def _vision() -> ModuleType:
    # Imported here because torchvision takes a second, and commands without images do not need it.
    from torchvision.transforms import v2

    return v2.functional


def crop_box(draw: list[float], height: int, width: int, min_area: float) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) as torchvision's RandomResizedCrop computes it, from uniform numbers.

    Args:
        draw: two numbers for each of ten attempts (area, ratio), then two for the position.
        height: height of the image in pixels.
        width: its width.
        min_area: smallest share of the area.
    """
    low, high = (math.log(ratio) for ratio in _RATIO)
    for attempt in range(_ATTEMPTS):
        area = height * width * (min_area + (1 - min_area) * draw[2 * attempt])
        ratio = math.exp(low + (high - low) * draw[2 * attempt + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            y, x = draw[2 * _ATTEMPTS : 2 * _ATTEMPTS + 2]
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    # As in torchvision: the largest centre crop with an allowed ratio.
    w = min(width, round(height * _RATIO[1]))
    h = min(height, round(width / _RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w
