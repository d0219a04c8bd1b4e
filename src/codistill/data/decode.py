"""Pictures to one uint8 tensor; files are read by several threads, since Pillow's decoders release Python's lock.

Pictures that cannot be decoded are returned in place of what was read, so that all of them can be named at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from codistill.data.pictures import PictureError, Pictures, is_grey, read_picture
from codistill.prepare import upright

__all__ = ["Header", "decode_images", "read_headers", "try_decoding"]

_THREADS = 16

Result = TypeVar("Result")


class Header(NamedTuple):
    """What a picture says of itself before it is decoded; sizes in pixels, before it is turned upright."""

    grey: bool
    width: int
    height: int


def read_headers(pictures: Pictures, indices: Sequence[int]) -> list[Header | PictureError]:
    """Return the header of each of these pictures."""
    return _each(pictures, lambda image, _: _header(image), indices)


def try_decoding(pictures: Pictures, indices: Sequence[int], channels: int) -> list[Header | PictureError]:
    """Decode each of these pictures and keep nothing: a file that is cut off has a good header."""

    def decoded(image: Image.Image, _: int) -> Header:
        found = _header(image)
        upright(image, channels)
        return found

    return _each(pictures, decoded, indices)


def decode_images(
    pictures: Pictures, indices: Sequence[int], channels: int, size: tuple[int, int]
) -> tuple[Tensor, list[Header | PictureError]]:
    """Read pictures, turn them upright (EXIF), resize them until they cover `size`, and crop the centre.

    Args:
        pictures: where to read them.
        indices: which ones to read.
        channels: 1 for grey, 3 for RGB.
        size: height and width in pixels.

    Returns:
        uint8 [N, C, height, width], in the order of `indices`, and the header of each picture. The pixels of a picture
        that cannot be decoded mean nothing.
    """
    images_NCHW = torch.empty(len(indices), channels, *size, dtype=torch.uint8)
    array = images_NCHW.permute(0, 2, 3, 1).numpy()

    def fill(image: Image.Image, place: int) -> Header:
        found = _header(image)
        array[place] = _pixels(image, channels, size)
        return found

    return images_NCHW, _each(pictures, fill, indices)


def _each(
    pictures: Pictures, use: Callable[[Image.Image, int], Result], indices: Sequence[int]
) -> list[Result | PictureError]:
    """Return what `use` makes of each picture and its place among `indices`."""

    def tried(place: int) -> Result | PictureError:
        try:
            return read_picture(pictures, indices[place], lambda image: use(image, place))
        except PictureError as bad:
            return bad

    if not pictures.light:
        return [tried(place) for place in range(len(indices))]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(tried, range(len(indices))))


def _header(image: Image.Image) -> Header:
    return Header(is_grey(image), image.width, image.height)


def _pixels(image: Image.Image, channels: int, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    # A JPEG decoder can skip detail that the resize would discard; twice the size keeps the result smooth.
    image.draft(image.mode, (2 * width, 2 * height))
    fitted = ImageOps.fit(upright(image, channels), (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, channels)
