"""Settings of the data: which images a run reads and how, with the check of their values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codistill.errors import UserError, check_rules
from codistill.meaning import setting

__all__ = ["DataOptions"]

MOST_PIXELS, MOST_WORKERS = 4096, 1024
"""Far above what any sensible run uses; beyond these, machines fail without a clear message."""

FOLDERS = ("image_folder", "imagenet")
"""Data sets that are folders of images, and take --validation-dir."""


LINKED = (*FOLDERS, "parquet", "hf")
"""Data sets that follow links, and take --follow-links."""


@dataclass(frozen=True)
class DataOptions:
    """The data set, how its images are read, and which of them are trained on."""

    data: str = setting("digits")
    """Data set by name ('codistill list data'); in the files of a run, own means data given from Python."""
    data_dir: Path | None = setting(None, "nothing")
    """Folder with the data set's files."""
    validation_dir: Path | None = setting(None, "nothing")
    """Folder of validation images with one folder per class, for image_folder and imagenet; replaces --validation."""
    download: bool = setting(True, "nothing")
    """Download a data set that is not found on this machine."""
    image_size: int | None = setting(None)
    """Side of the square images in pixels; images are resized to it (image_folder: 64, imagenet: 224 if left out)."""
    data_memory: float = setting(8.0)
    """GiB that the images may take. A folder or table that needs more, or whose images have a side of 128 pixels or
    more, is decoded again in every step, with random resized crops (0: always)."""
    workers: int | None = setting(None, "nothing")
    """Processes that decode images which are not held in memory (0: the training process itself); one fewer than the
    cores, at most 8, if left out. Changes no result."""
    worker_timeout: float = setting(300.0, "nothing")
    """Seconds without a batch after which these processes hang, and the run ends with what it has saved."""
    train_subset: int | None = setting(None)
    """Train on this many images only, the same share of each class (for a quick look)."""
    validation: float = setting(0.1)
    """Share of each class of the training set that is set aside for validation (whole font faces for glyphs); not used
    if the data come with a validation part."""
    follow_links: bool = setting(False, "nothing")
    """Follow links that lead out of the data folder; otherwise they are left out."""
    bad_images: Literal["stop", "skip"] = setting("stop")
    """What to do with images of yours that cannot be decoded: stop and list them, or leave them out and count them."""

    def check_data(self) -> None:
        """Raise UserError for a value that is out of range, or for a validation folder that nothing would read."""
        if self.validation_dir is not None and self.data not in FOLDERS:
            raise UserError(
                f"validation_dir {self.validation_dir} with the data {self.data!r}: only {' and '.join(FOLDERS)} read "
                "a validation folder; leave it out (tables take a split named validation, data from Python a third "
                "part)."
            )
        kind = self.data.partition(":")[0]
        if self.follow_links and kind not in LINKED:
            raise UserError(
                f"follow_links with the data {self.data!r}: only {', '.join(LINKED)} are folders with links of yours; "
                "leave it out."
            )
        check_rules(
            ("bad_images", self.bad_images, self.bad_images in ("stop", "skip"), "stop or skip"),
            ("validation", self.validation, 0 < self.validation < 1, "a share above 0 and below 1"),
            ("train_subset", self.train_subset, self.train_subset is None or self.train_subset > 0, "above 0"),
            (
                "image_size",
                self.image_size,
                self.image_size is None or 8 <= self.image_size <= MOST_PIXELS,
                f"8 to {MOST_PIXELS} pixels",
            ),
            ("data_memory", self.data_memory, self.data_memory >= 0, "0 or more GiB"),
            (
                "workers",
                self.workers,
                self.workers is None or 0 <= self.workers <= MOST_WORKERS,
                f"0 to {MOST_WORKERS} processes",
            ),
            ("worker_timeout", self.worker_timeout, self.worker_timeout > 0, "above 0 seconds"),
        )
