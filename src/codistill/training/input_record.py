"""What a run's networks expect, give and were trained on: the content of input.json, and whether other data fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from codistill.data import Dataset
from codistill.errors import UserError

__all__ = ["input_facts", "pixels_differ", "refuse_other_data"]

GREY_LEVEL = 1 / 255
"""What means and deviations of pixels may differ by: files are decoded a little differently from machine to machine."""


def input_facts(dataset: Dataset) -> dict[str, Any]:
    """The content of input.json (docs/run-directory.md); no image is read for it."""
    channels, height, width = dataset.train.shape
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.test):
        digest.update(part.labels_N.numpy().astype("<i8").tobytes())
    return {
        "version": 1,
        "channels": channels,
        "height": height,
        "width": width,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "classes": list(dataset.classes),
        "data": {
            "training_images": len(dataset.train),
            "test_images": len(dataset.test),
            "labels_sha256": digest.hexdigest(),
        },
    }


def refuse_other_data(recorded: Mapping[str, Any], dataset: Dataset, run_dir: Path, of_same_kind: bool = False) -> None:
    """UserError where `dataset` is not what the run's input.json describes; older runs recorded less.

    Args:
        recorded: the content of input.json.
        dataset: the data now.
        run_dir: the run directory.
        of_same_kind: other images will do where the networks can be scored on them: the same classes, channels, size,
            mean and deviation.
    """
    now = input_facts(dataset)
    difference = _difference({**recorded, "data": now["data"]} if of_same_kind else recorded, now)
    if difference is not None:
        raise UserError(
            f"{run_dir} was trained on other data ({difference}): put the data back as they were, or for data from "
            "Python give the same dataset=; for new data begin a new run."
        )


def pixels_differ(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs between two records in the images' size or in what is subtracted from and divides their pixels."""
    sizes = [f"{facts['height']} × {facts['width']} pixels" for facts in (recorded, now)]
    if sizes[0] != sizes[1]:
        return _then_now("images of", *sizes)
    for name in ("mean", "std"):
        if any(abs(a - b) > GREY_LEVEL for a, b in zip(recorded[name], now[name], strict=True)):
            before, after = ([round(value, 4) for value in facts[name]] for facts in (recorded, now))
            return _then_now(f"{name} of the pixels", before, after)
    return None


def _difference(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    if recorded["classes"] != now["classes"]:
        return _other_class(recorded["classes"], now["classes"])
    if recorded["channels"] != now["channels"]:
        return _then_now("channels", recorded["channels"], now["channels"])
    before, after = recorded.get("data", now["data"]), now["data"]
    for name in ("training_images", "test_images"):
        if before[name] != after[name]:
            return f"{before[name]} {name.replace('_', ' ')} then, {after[name]} now"
    if before["labels_sha256"] != after["labels_sha256"]:
        return "other labels, or in another order"
    return pixels_differ(recorded, now)


def _other_class(before: Sequence[str], after: Sequence[str]) -> str:
    label, (a, b) = next((i, pair) for i, pair in enumerate(zip_longest(before, after)) if pair[0] != pair[1])
    return f"class {label} was {a!r}, is {b!r}; {len(before)} classes then, {len(after)} now"


def _then_now(what: str, before: object, after: object) -> str:
    return f"{what} {before} then, {after} now"
