"""What a data set's file has to offer: a loader, and what can be said about the data without loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codistill.data.pixels import MEMORY_LIMIT
from codistill.data.types import Images

__all__ = ["Parts", "Request", "Source", "cache_dir"]


@dataclass(frozen=True)
class Request:
    """What the user asked for, checked: `data_dir` is a folder with something in it.

    Attributes:
        data_dir: where to look, and then nowhere else; None: the usual places.
        image_size: side in pixels, or None for the data's own.
        download: whether missing files may be downloaded.
        memory: bytes that the images may take.
        place: what follows the colon in names such as "parquet:PATH".
    """

    data_dir: Path | None
    image_size: int | None
    download: bool
    memory: int = MEMORY_LIMIT
    place: str = ""


@dataclass(frozen=True, eq=False)
class Parts:
    """What a loader gives back; see `codistill.data.Dataset` for the fields."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    found_at: str


@dataclass(frozen=True)
class Source:
    """One entry of `SOURCES`.

    Attributes:
        load: reads the data; raises UserError.
        find: where the data is on this machine, or None; neither reads nor downloads it.
        description: one line.
        data_dir: whether the user may, must or must not name a folder.
        classes: number of classes; like the four numbers that follow None where the user's own files decide.
        train_images: number of images before a validation part is split off.
        test_images: number of images.
        channels: 1 (grey) or 3 (RGB).
        image_size: side in pixels, before `--image-size`.
        crop_padding: default of the random crop in pixels for images in memory; None: an eighth of the side.
        flip: default of the horizontal flip.
        epochs: default length of a run.
        mean_std: published constants of normalisation, or None to compute them over the training images.
        place: what must follow the name and a colon ("PATH" for parquet:PATH), or None.
    """

    load: Callable[[Request], Parts]
    find: Callable[[], str | None]
    description: str
    data_dir: Literal["refused", "optional", "required"]
    classes: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    channels: int | None = None
    image_size: int | None = None
    crop_padding: int | None = None
    flip: bool = False
    epochs: int = 60
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    place: str | None = None


def cache_dir() -> Path:
    """Folder for downloaded data: `$CODISTILL_DATA`, or else `~/.cache/codistill`."""
    named = os.environ.get("CODISTILL_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "codistill"
