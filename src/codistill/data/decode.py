"""Pictures to one uint8 tensor; files are read by several threads, since Pillow's decoders release Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from codistill.data.pictures import Pictures, is_grey, read_picture, upright

__all__ = ["all_grey", "decode_images"]

_THREADS = 16

Result = TypeVar("Result")


def all_grey(pictures: Pictures, indices: Sequence[int]) -> bool:
    """Whether the headers of these pictures all say grey; UserError if one cannot be opened."""
    return all(_each(pictures, lambda index: read_picture(pictures, index, is_grey), indices))


def decode_images(pictures: Pictures, indices: Sequence[int], channels: int, size: tuple[int, int]) -> Tensor:
    """Read pictures, turn them upright (EXIF), resize them until they cover `size`, and crop the centre.

    Args:
        pictures: where to read them.
        indices: which ones to read.
        channels: 1 for grey, 3 for RGB.
        size: height and width in pixels.

    Returns:
        uint8 [N, C, height, width], in the order of `indices`.

    Raises:
        UserError: a picture cannot be decoded; the message names it.
    """
    images_NCHW = torch.empty(len(indices), channels, *size, dtype=torch.uint8)
    array = images_NCHW.permute(0, 2, 3, 1).numpy()

    def fill(place: int) -> None:
        array[place] = read_picture(pictures, indices[place], lambda image: _pixels(image, channels, size))

    _each(pictures, fill, range(len(indices)))
    return images_NCHW


def _each(pictures: Pictures, use: Callable[[int], Result], numbers: Sequence[int]) -> list[Result]:
    if not pictures.light:
        return [use(number) for number in numbers]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(use, numbers))


def _pixels(image: Image.Image, channels: int, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    # A JPEG decoder can skip detail that the resize would discard; twice the size keeps the result smooth.
    image.draft(image.mode, (2 * width, 2 * height))
    fitted = ImageOps.fit(upright(image, channels), (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, channels)
