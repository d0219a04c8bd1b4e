"""input.json: what a run's networks expect and give, and by what its data are recognised."""

from __future__ import annotations

from dataclasses import dataclass

from codistill.rundir.names import FORMAT
from codistill.rundir.record import Record

__all__ = ["DataRecord", "InputRecord"]


@dataclass(frozen=True, kw_only=True)
class DataRecord(Record):
    """How many images there are, and the SHA-256 of all their labels in order, training then test."""

    training_images: int
    test_images: int
    labels_sha256: str


@dataclass(frozen=True, kw_only=True)
class InputRecord(Record):
    """input.json: size of an image in pixels, mean and deviation of pixels scaled to 0..1 (per channel), classes.

    `data` is None for runs of older versions, which did not write it.
    """

    version: int = FORMAT
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    data: DataRecord | None = None
