"""Image files to one uint8 tensor, with Pillow in a pool of threads (its decoders let go of Python's lock)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from codistill.data.pixels import check_memory
from codistill.errors import UserError

__all__ = ["SUFFIXES", "decode_images"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with other suffixes are not taken for images; case does not matter."""

_GREY = frozenset({"1", "L", "I", "I;16", "I;16B", "I;16L"})
_THREADS = 16
# What Pillow's decoders raise on a file that is not what its suffix says, or that ends too early.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

Result = TypeVar("Result")


def decode_images(paths: Sequence[Path], size: int) -> Tensor:
    """Read images, turn them upright (EXIF), resize the shorter side to `size` and crop the centre.

    Returns:
        uint8 [N, C, size, size], in the order of `paths`: one channel where every image is grey, otherwise RGB.

    Raises:
        UserError: a file cannot be decoded (it is named), or the images do not fit into memory.
    """
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        modes = set(pool.map(lambda path: _read(path, lambda image: image.mode), paths))
        channels = 1 if modes <= _GREY else 3
        check_memory(len(paths), channels, size)
        images_NCHW = torch.empty(len(paths), channels, size, size, dtype=torch.uint8)
        array = images_NCHW.permute(0, 2, 3, 1).numpy()

        def fill(index: int) -> None:
            array[index] = _read(paths[index], lambda image: _pixels(image, channels, size))

        for _ in pool.map(fill, range(len(paths))):
            pass
    return images_NCHW


def _read(path: Path, use: Callable[[Image.Image], Result]) -> Result:
    try:
        with Image.open(path) as image:
            return use(image)
    except _DAMAGED as error:
        reason = str(error).replace(f" {str(path)!r}", "")
        raise UserError(f"{path} cannot be decoded ({reason}): replace or remove this image.") from error


def _pixels(image: Image.Image, channels: int, size: int) -> np.ndarray:
    # A JPEG decoder can skip detail that the resize would throw away; twice the size keeps the result smooth.
    image.draft(image.mode, (2 * size, 2 * size))
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # Pillow would clip 16 bits to 255 instead of scaling them.
        upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    colours = upright.convert("L" if channels == 1 else "RGB")
    square = ImageOps.fit(colours, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(size, size, channels)
