"""The input record: what a run's networks expect, give and were trained on, and whether other data fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from codistill.data import Dataset, DataSummary, LazyImages
from codistill.errors import UserError
from codistill.rundir import DataRecord, DuplicatesRecord, ImagesRecord, InputRecord, Preparation

__all__ = ["input_record", "labels_digest", "pixels_differ", "refuse_other_data"]

GREY_LEVEL = 1 / 255
"""How far means and deviations of pixels may differ: machines decode files a little differently."""


def input_record(dataset: Dataset, summary: DataSummary | None = None) -> InputRecord:
    """Return the content of input.json (docs/run-directory.md); no image is read for it."""
    channels, height, width = dataset.train.shape
    data = DataRecord(
        training_images=len(dataset.train), test_images=len(dataset.test), labels_sha256=labels_digest(dataset)
    )
    return InputRecord(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(dataset.mean),
        std=tuple(dataset.std),
        classes=tuple(dataset.classes),
        data=data,
        images=None if summary is None else _images_record(summary),
        preparation=_preparation(dataset),
    )


def _preparation(dataset: Dataset) -> Preparation:
    channels, height, width = dataset.train.shape
    shorter_side = dataset.test.shorter_side if isinstance(dataset.test, LazyImages) else None
    resize = dataset.resize or ("none" if shorter_side is None else "shorter_side")
    return Preparation(
        channels=channels,
        resize=resize,
        height=height,
        width=width,
        shorter_side=shorter_side if resize == "shorter_side" else None,
        mean=tuple(dataset.mean),
        std=tuple(dataset.std),
    )


def labels_digest(dataset: Dataset) -> str:
    """Return the SHA-256 of all labels in order, those of the training part first."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.test):
        digest.update(part.labels_N.numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _images_record(summary: DataSummary) -> ImagesRecord:
    duplicates = DuplicatesRecord(counts=summary.duplicates.counts, compared=summary.duplicates.compared)
    return ImagesRecord(
        per_class=summary.per_class,
        duplicates=duplicates,
        sizes=summary.sizes,
        channels=summary.channels,
        skipped=summary.skipped,
        notes=summary.notes,
    )


def refuse_other_data(recorded: InputRecord, dataset: Dataset, run_dir: Path, of_same_kind: bool = False) -> None:
    """Raise UserError if `dataset` is not what the run's input.json describes; older runs recorded less.

    Args:
        recorded: the content of input.json.
        dataset: the data now.
        run_dir: the run directory.
        of_same_kind: accept other images that the networks can be scored on: the same classes, channels, size, mean
            and deviation.
    """
    now = input_record(dataset)
    difference = _difference(replace(recorded, data=now.data) if of_same_kind else recorded, now)
    if difference is not None:
        raise UserError(
            f"{run_dir} was trained on other data ({difference}): restore the data, or for data from Python give "
            "the same dataset=; for new data start a new run."
        )


def pixels_differ(recorded: InputRecord, now: InputRecord) -> str | None:
    """Return how two records differ in the images' size, or in the mean and deviation of their pixels."""
    sizes = [f"{record.height} × {record.width} pixels" for record in (recorded, now)]
    if sizes[0] != sizes[1]:
        return _then_now("images of", *sizes)
    for name, *both in (("mean", recorded.mean, now.mean), ("std", recorded.std, now.std)):
        if any(abs(a - b) > GREY_LEVEL for a, b in zip(*both, strict=True)):
            before, after = ([round(value, 4) for value in values] for values in both)
            return _then_now(f"{name} of the pixels", before, after)
    return None


def _difference(recorded: InputRecord, now: InputRecord) -> str | None:
    if recorded.classes != now.classes:
        return _other_class(recorded.classes, now.classes)
    if recorded.channels != now.channels:
        return _then_now("channels", recorded.channels, now.channels)
    before, after = recorded.data, now.data
    if before is not None and after is not None:
        for name in ("training_images", "test_images"):
            then, there = getattr(before, name), getattr(after, name)
            if then != there:
                return f"{then} {name.replace('_', ' ')} then, {there} now"
        if before.labels_sha256 != after.labels_sha256:
            return "other labels, or in another order"
    return pixels_differ(recorded, now)


def _other_class(before: Sequence[str], after: Sequence[str]) -> str:
    label, (a, b) = next((i, pair) for i, pair in enumerate(zip_longest(before, after)) if pair[0] != pair[1])
    return f"class {label} was {a!r}, is {b!r}; {len(before)} classes then, {len(after)} now"


def _then_now(what: str, before: object, after: object) -> str:
    return f"{what} {before} then, {after} now"
