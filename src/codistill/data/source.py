"""What the module of a data set provides: a loader, and facts about the data that are known without loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codistill.data.findings import Findings
from codistill.data.pixels import MEMORY_LIMIT
from codistill.data.types import Images, Resize

__all__ = ["Parts", "Request", "Source", "cache_dir"]


@dataclass(frozen=True)
class Request:
    """What the user asked for, after the checks: `data_dir` is a folder that is not empty.

    Attributes:
        data_dir: the only place to search; None: the usual places.
        image_size: side in pixels; None: the data's own size.
        download: whether missing files may be downloaded.
        memory: bytes that the images may take.
        place: what follows the colon in names such as "parquet:PATH".
        validation_dir: a folder of validation images, one folder per class; None: whatever the data has.
        follow_links: whether links that leave the folder are followed.
        skip_bad: whether pictures that cannot be decoded are left out; otherwise they are refused.
    """

    data_dir: Path | None
    image_size: int | None
    download: bool
    memory: int = MEMORY_LIMIT
    place: str = ""
    validation_dir: Path | None = None
    skip_bad: bool = False
    follow_links: bool = False


@dataclass(frozen=True, eq=False)
class Parts:
    """What a loader returns; see `codistill.data.Dataset` for the fields."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    found_at: str
    validation_images: int = 0
    findings: Findings | None = None
    resize: Resize = "squash"


@dataclass(frozen=True)
class Source:
    """One entry of `SOURCES`.

    Attributes:
        load: reads the data; raises UserError.
        find: returns where the data is on this machine, or None; neither reads nor downloads it.
        description: one line.
        data_dir: whether the user may, must or must not give a folder.
        classes: number of classes. This and the next four numbers are None if they depend on the user's files.
        train_images: number of images before a validation part is split off.
        test_images: number of images.
        channels: 1 (grey) or 3 (RGB).
        image_size: side in pixels, before `--image-size`.
        crop_padding: default padding of the random crop in pixels, for images in memory; None: an eighth of the side.
        flip: default of the horizontal flip.
        epochs: default length of a run.
        mean_std: published mean and deviation; None: compute them from the training images.
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
    """The folder for downloaded data: `$CODISTILL_DATA`, or `~/.cache/codistill` if that is not set."""
    named = os.environ.get("CODISTILL_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "codistill"
