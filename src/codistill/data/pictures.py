"""Images in files or in the user's objects, opened one at a time with Pillow, and turned into pixels."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.suffixes import register_plugin
from codistill.errors import UserError, one_line

__all__ = [
    "FilePictures",
    "JoinedPictures",
    "PictureError",
    "PictureReader",
    "Pictures",
    "is_grey",
    "read_picture",
    "upright",
]

_GREY = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_SIXTEEN_BITS = frozenset({"PNG", "PPM"})
"""Formats whose integers Pillow scales to 0 to 65535 when it returns them with 32 bits."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the image upright."""
# What Pillow's decoders raise if a file is not what its suffix says, ends early, or holds tags of the wrong type.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error)
_DAMAGED += (OverflowError, Image.DecompressionBombError)

Result = TypeVar("Result")


class PictureError(UserError):
    """One picture cannot be decoded. `name` says which, `reason` why.

    The three arguments are the exception's `args`, so that it can be sent between processes.
    """

    def __init__(self, message: str, name: str, reason: str) -> None:
        super().__init__(message, name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return str(self.args[0])


class Pictures(Protocol):
    """Images by their index; can be pickled."""

    @property
    def light(self) -> bool:
        """Whether `open` reads little more than a header, and may be called by several threads at once."""
        ...

    @property
    def random(self) -> bool:
        """Whether `open` may return another image each time, drawn from the global generators."""
        ...

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
    light: bool = True
    random: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        """See `Pictures`."""
        register_plugin()
        return Image.open(self.paths[index])

    def name(self, index: int) -> str:
        """The path."""
        return str(self.paths[index])


@dataclass(frozen=True)
class JoinedPictures:
    """Two sequences of pictures, one after the other."""

    first: Pictures
    second: Pictures

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def light(self) -> bool:
        """See `Pictures`."""
        return self.first.light and self.second.light

    @property
    def random(self) -> bool:
        """See `Pictures`."""
        return self.first.random or self.second.random

    def open(self, index: int) -> Image.Image:
        """See `Pictures`."""
        pictures, place = self._at(index)
        return pictures.open(place)

    def name(self, index: int) -> str:
        """See `Pictures`."""
        pictures, place = self._at(index)
        return pictures.name(place)

    def _at(self, index: int) -> tuple[Pictures, int]:
        inside = index < len(self.first)
        return (self.first, index) if inside else (self.second, index - len(self.first))


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
    """Return `use(picture)` for the opened picture; PictureError with its name if it cannot be decoded."""
    try:
        with pictures.open(index) as image:
            return use(image)
    except UserError:
        raise
    except _DAMAGED as error:
        name = pictures.name(index)
        # Pillow adds the file's name, which stands in our message already, or an object's address.
        reason = re.sub(r" <_io\.[^>]*>", "", one_line(error)).replace(f" {name!r}", "")
        reason = reason or type(error).__name__
        raise PictureError(
            f"{name} cannot be decoded ({reason}): replace or remove this image, or leave such images out with "
            "--bad-images skip.",
            name,
            reason,
        ) from error


def is_grey(image: Image.Image) -> bool:
    """Whether the mode of the image is grey."""
    return image.mode in _GREY


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return the image turned as its EXIF data says, with 8 bits, in mode L for one channel and RGB for three.

    Integers of 16 bits and floats in 0 to 1 are scaled. Other numbers raise ValueError, since nothing says which one is
    white.
    """
    # First, so that a damaged image fails here and not where its EXIF data are read, whose faults do not matter.
    image.load()
    turn = _TURNS.get(_orientation(image))
    turned = image if turn is None else image.transpose(turn)
    if turned.mode.startswith("I") or turned.mode == "F":
        turned = Image.fromarray(_eight_bits(np.asarray(turned), turned.mode, image.format))
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    return turned if turned.mode == mode else turned.convert(mode)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none or it cannot be read.

    Pillow's exif_transpose would also write the EXIF data again, which fails if any tag of it has the wrong type.
    """
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's parser raises errors of many types, and a good photo needs no EXIF data.
        return 1
    return found if isinstance(found, int) else 1


def _eight_bits(pixels_HW: np.ndarray, mode: str, form: str | None) -> np.ndarray:
    """Pixels scaled to uint8; Pillow would clip them at 255."""
    low, high = pixels_HW.min(), pixels_HW.max()
    if mode.startswith("I;16") or (mode == "I" and form in _SIXTEEN_BITS and 0 <= low <= high <= 65535):
        return (pixels_HW.astype(np.int32) // 257).astype(np.uint8)
    if mode == "F" and 0 <= low <= high <= 1:
        return (pixels_HW * 255).round().astype(np.uint8)
    kind = "floats" if mode == "F" else "integers of 32 bits"
    raise ValueError(f"{kind} from {low:g} to {high:g}, but only 8 bits, 16 bits (I;16) and floats in 0 to 1 work")
