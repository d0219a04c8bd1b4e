"""Images in files or in the user's objects, opened one at a time with Pillow, and turned into pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.damage import DAMAGED, reason_of
from codistill.data.opening import open_picture
from codistill.errors import UserError
from codistill.prepare import upright
from codistill.printable import printable

__all__ = [
    "FilePictures",
    "JoinedPictures",
    "PictureError",
    "PictureReader",
    "Pictures",
    "is_grey",
    "read_picture",
]

_GREY = frozenset({"1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
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
        return open_picture(self.paths[index])

    def name(self, index: int) -> str:
        """The path, fit to print."""
        return printable(str(self.paths[index]), lines=False)


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
    except DAMAGED as error:
        name = pictures.name(index)
        reason = reason_of(error, name)
        raise PictureError(
            f"{name} cannot be decoded ({reason}): replace or remove this image, or leave such images out with "
            "--bad-images skip.",
            name,
            reason,
        ) from error


def is_grey(image: Image.Image) -> bool:
    """Whether the mode of the image is grey."""
    return image.mode in _GREY
