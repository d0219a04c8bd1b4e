"""Images in files or in the user's objects, opened one at a time with Pillow, and turned into pixels."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from codistill.errors import UserError

__all__ = ["SUFFIXES", "FilePictures", "PictureReader", "Pictures", "is_grey", "read_picture", "upright"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files with other suffixes are not images; upper and lower case are the same."""

_GREY = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_SIXTEEN_BITS = frozenset({"PNG", "PPM"})
"""Formats whose integers Pillow scales to 0 to 65535 when it returns them with 32 bits."""
_ORIENTATION = 0x0112
# What Pillow's decoders raise if a file is not what its suffix says, or ends early.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

Result = TypeVar("Result")


class Pictures(Protocol):
    """Images by their index; can be pickled."""

    light: ClassVar[bool]
    """Whether `open` reads little more than a header, and may be called by several threads at once."""

    def __len__(self) -> int: ...

    def open(self, index: int) -> Image.Image:
        """The image; decoding may happen later."""
        ...

    def name(self, index: int) -> str:
        """What an error message calls the image."""
        ...


@dataclass(frozen=True)
class FilePictures:
    """Image files."""

    paths: Sequence[Path]
    light: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        """See `Pictures`."""
        return Image.open(self.paths[index])

    def name(self, index: int) -> str:
        """The path."""
        return str(self.paths[index])


@dataclass(frozen=True)
class PictureReader:
    """Reads whole pictures as pixels (see `PixelReader`), upright (EXIF) and in grey or RGB."""

    pictures: Pictures
    channels: int

    def __call__(self, index: int) -> Tensor:
        """Return uint8 [C, H, W], the colours of a pixel adjacent in memory; UserError if it cannot be decoded."""
        pixels = read_picture(self.pictures, index, lambda image: np.array(upright(image, self.channels)))
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], self.channels)).permute(2, 0, 1)


def read_picture(pictures: Pictures, index: int, use: Callable[[Image.Image], Result]) -> Result:
    """Return `use(picture)` for the opened picture; UserError with its name if it cannot be decoded."""
    try:
        with pictures.open(index) as image:
            return use(image)
    except UserError:
        raise
    except _DAMAGED as error:
        # Pillow adds the file's name, which stands in our message already, or an object's address.
        reason = re.sub(r" <_io\.[^>]*>", "", str(error)).replace(f" {pictures.name(index)!r}", "")
        raise UserError(
            f"{pictures.name(index)} cannot be decoded ({reason}): replace or remove this image."
        ) from error


def is_grey(image: Image.Image) -> bool:
    """Whether the mode of the image is grey."""
    return image.mode in _GREY


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return the image turned as its EXIF data says, with 8 bits, in mode L for one channel and RGB for three.

    Integers of 16 bits and floats in 0 to 1 are scaled. Other numbers raise ValueError, since nothing says which one is
    white.
    """
    # Pillow's function copies an image even if it does not have to be turned.
    turned = image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    if turned.mode.startswith("I") or turned.mode == "F":
        turned = Image.fromarray(_eight_bits(np.asarray(turned), turned.mode, image.format))
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    return turned if turned.mode == mode else turned.convert(mode)


def _eight_bits(pixels_HW: np.ndarray, mode: str, form: str | None) -> np.ndarray:
    """Pixels scaled to uint8; Pillow would clip them at 255."""
    low, high = pixels_HW.min(), pixels_HW.max()
    if mode.startswith("I;16") or (mode == "I" and form in _SIXTEEN_BITS and 0 <= low <= high <= 65535):
        return (pixels_HW.astype(np.int32) // 257).astype(np.uint8)
    if mode == "F" and 0 <= low <= high <= 1:
        return (pixels_HW * 255).round().astype(np.uint8)
    kind = "floats" if mode == "F" else "integers of 32 bits"
    raise ValueError(f"{kind} from {low:g} to {high:g}, but only 8 bits, 16 bits (I;16) and floats in 0 to 1 work")
