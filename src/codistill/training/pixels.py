"""The size of the images and the mean and deviation of their pixels, where a run starts from trained weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from codistill import data, models
from codistill.config import Config, filled
from codistill.data import Dataset
from codistill.errors import UserError
from codistill.models import Pixels
from codistill.rundir import INPUT, OWN_DATA, OWN_NETWORK, InputRecord, read_record

__all__ = ["EXPORTED", "exported_weights", "fill_pixels", "is_own", "normalised", "pixel_note", "pixels_of_folder"]

EXPORTED = "student.json"
"""What `codistill export` writes next to the weights."""

_WEIGHTS = ("student.safetensors", "model.safetensors")

IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fill_pixels(config: Config) -> Config:
    """Return the configuration with `normalise` settled, and with the weights' image size if nothing else sets it.

    A data set leaves its pixels open if its images have no size of their own: folders and tables. No weights are read.

    Raises:
        UserError: there are no weights of that name, weights of several peers disagree, or `normalise` is "weights" and
            nothing is known about those of `init`.
    """
    is_open = config.data != OWN_DATA and _has_no_size(config.data)
    normalise, size = config.normalise, config.image_size
    pixels = _pixels_of_start(config, must_agree=normalise == "weights" or (normalise == "auto" and is_open))
    if normalise == "auto":
        normalise = "weights" if pixels and is_open else "data"
    if normalise == "weights" and pixels is None:
        raise UserError(
            f"normalise weights with init {', '.join(config.init)}: no mean and deviation of these are known; choose "
            "data or imagenet."
        )
    if size is None and is_open and pixels and pixels.height == pixels.width:
        size = pixels.height
    return dataclasses.replace(config, normalise=normalise, image_size=size)


def normalised(config: Config, dataset: Dataset) -> Dataset:
    """Return the data set with the mean and deviation that `config.normalise`, filled in, asks for.

    One grey channel gets the mean of the three; UserError for any other number of channels than the weights'.
    """
    if config.normalise not in ("weights", "imagenet"):
        return dataset
    pixels = IMAGENET if config.normalise == "imagenet" else filled(_pixels_of_start(config, must_agree=True))
    channels = dataset.train.shape[0]
    if channels not in (1, len(pixels.mean)):
        raise UserError(
            f"normalise {config.normalise}: its mean is of {len(pixels.mean)} channels, the images have {channels}; "
            "choose --normalise data."
        )
    mean, std = (_in_channels(values, channels) for values in (pixels.mean, pixels.std))
    return dataclasses.replace(dataset, mean=mean, std=std)


def pixel_note(config: Config, facts: InputRecord) -> tuple[str, ...]:
    """Return what to tell about the pixels of a run that starts from weights, or is normalised by other numbers."""
    if set(config.init) == {models.RANDOM} and config.normalise == "data":
        return ()
    whose = {"data": "of the data", "weights": "of the weights", "imagenet": "of ImageNet"}[config.normalise]
    mean, std = (", ".join(f"{value:.3f}" for value in values) for values in (facts.mean, facts.std))
    return (
        f"images: {facts.height} × {facts.width} pixels, normalised by the mean ({mean}) and deviation ({std}) {whose}",
    )


def pixels_of_folder(folder: Path) -> Pixels | None:
    """Return what a run or an exported student was trained on; None if the folder is neither."""
    file = next((f for f in (folder / EXPORTED, folder / INPUT) if f.is_file()), None)
    if file is None:
        return None
    record = read_record(file, InputRecord)
    return Pixels(record.mean, record.std, record.height, record.width)


def exported_weights(folder: Path) -> Path:
    """Return the file with the weights of an exported student; UserError if it was exported as a graph alone."""
    file = next((f for name in _WEIGHTS if (f := folder / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{folder} holds an exported student without its weights by name ({' or '.join(_WEIGHTS)}): export it with "
            "--format safetensors too."
        )
    return file


def is_own(model: str) -> bool:
    """Whether the user's own code builds the network, so that it may come with weights."""
    return model == OWN_NETWORK or ".py:" in model


def _pixels_of_start(config: Config, must_agree: bool) -> Pixels | None:
    peers = filled(config.peers)
    inits, names = (values * (peers if len(values) == 1 else 1) for values in (config.init, config.model))
    found: dict[str, Pixels] = {}
    for init, name in dict.fromkeys(zip(inits, names, strict=True)):
        pixels = _pixels_of(init, name)
        if pixels is not None:
            found[f"{name} from {init}"] = pixels
    different = set(found.values())
    if len(different) > 1 and must_agree:
        raise UserError(
            f"weights of {' and '.join(found)} were trained on different pixels: choose --normalise data or imagenet, "
            "and --image-size."
        )
    return different.pop() if len(different) == 1 else None


def _pixels_of(init: str, name: str) -> Pixels | None:
    if init == models.RANDOM or (init == models.PRETRAINED and is_own(name)):
        return None
    return pixels_of_folder(Path(init).expanduser()) or models.find_pixels(name, init)


def _has_no_size(name: str) -> bool:
    kind, _ = data.check_name(name)
    return next(row["image_size"] for row in data.describe() if str(row["name"]).partition(":")[0] == kind) is None


def _in_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
