"""input.json: what a run's networks expect and give, and by what its data are recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codistill.rundir.names import FORMAT
from codistill.rundir.preparation import Preparation
from codistill.rundir.record import Record

__all__ = ["DataRecord", "DuplicatesRecord", "ImagesRecord", "InputRecord"]


@dataclass(frozen=True, kw_only=True)
class DataRecord(Record):
    """How many images there are, and the SHA-256 of all their labels in order, training then test."""

    training_images: int
    test_images: int
    labels_sha256: str


@dataclass(frozen=True, kw_only=True)
class DuplicatesRecord(Record):
    """How many images of one part are also in another ("test in training"), and what was compared, or why nothing."""

    counts: Mapping[str, int]
    compared: str


@dataclass(frozen=True, kw_only=True)
class ImagesRecord(Record):
    """The user's own images: number of each class by part, duplicates between parts, sizes, and what was left out.

    `sizes` are the smallest, the median and the largest width and height in pixels, empty if they are not known.
    `skipped` counts images that cannot be decoded, by class. `notes` are sentences.
    """

    per_class: Mapping[str, tuple[int, ...]]
    duplicates: DuplicatesRecord
    sizes: tuple[tuple[int, ...], ...]
    channels: int
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class InputRecord(Record):
    """input.json: size of an image in pixels, mean and deviation of pixels scaled to 0..1 (per channel), classes.

    `data` and `preparation` are None for runs of older versions, which did not write them; `images` is None for them,
    and for data sets whose content is known.
    """

    version: int = FORMAT
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    data: DataRecord | None = None
    images: ImagesRecord | None = None
    preparation: Preparation | None = None
