"""Images of a Dataset that draws at random: a new draw for every view in training, the same one in every evaluation.

Such a Dataset has its augmentation in it, so that its images are neither cropped here nor kept in memory.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.lazy import LazyImages
from codistill.data.normalise import Normaliser

__all__ = ["DrawnImages", "drawing_from"]

_NUMPY_SEEDS = 2**32


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seed the global generators of torch (CPU), numpy and Python, and put the caller's state back in the end."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - transforms draw from numpy's old generator
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpys)  # noqa: NPY002


@dataclass(frozen=True, eq=False)
class DrawnImages(LazyImages):
    """Images that are drawn again whenever they are read; see `LazyImages` for the fields."""

    def decode(self, index_B: Tensor) -> Tensor:
        """Return these images for evaluation, whole, uint8; an image's draw depends on nothing but its index."""
        frames_BCHW = self._empty(len(index_B))
        for frame, index in zip(frames_BCHW, self.index_N[index_B].tolist(), strict=True):
            frame.copy_(self._drawn(index, index)[0])
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
        """Return views [V, B, C, size, size], each drawn by the Dataset itself and flipped if asked for.

        The arguments are those of `LazyImages.decode_views`; `min_area` has no effect, since nothing is cropped.
        """
        B = len(index_B)
        seeds_BV = torch.randint(2**62, (B, views), generator=generator).tolist()
        flips_BV = (torch.rand(B, views, generator=generator) < 0.5).tolist()
        out, write = self._place(views, B, normaliser, out)
        for b, index in list(enumerate(self.index_N[index_B].tolist()))[rows]:
            for v in range(views):
                made_1CHW = self._drawn(index, seeds_BV[b][v])
                write(out[v, b : b + 1], made_1CHW.flip(3) if flip and flips_BV[b][v] else made_1CHW)
        return out

    def _drawn(self, index: int, seed: int) -> Tensor:
        """One image, uint8 [1, C, size, size]: resized until it covers the square, and cropped to its centre."""
        with drawing_from(seed):
            pixels_1CHW = self.read(index).unsqueeze(0)
        height, width = pixels_1CHW.shape[2:]
        if (height, width) == (self.size, self.size):
            return pixels_1CHW
        scale = self.size / min(height, width)
        height, width = (max(round(side * scale), self.size) for side in (height, width))
        made = functional.interpolate(pixels_1CHW, (height, width), mode="bilinear", antialias=True)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return made[:, :, top : top + self.size, left : left + self.size]
