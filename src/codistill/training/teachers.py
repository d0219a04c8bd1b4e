"""Frozen teachers: runs, exported students, networks of torchvision and timm, weights in a file, the user's code."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from codistill import models
from codistill.config import Config, read_config
from codistill.errors import UserError
from codistill.models import Pixels, Weights
from codistill.peers.features import find_classifier
from codistill.peers.resized import Resized
from codistill.rundir import CONFIG, INPUT, OWN_NETWORK, InputRecord, read_json, read_record
from codistill.training.input_record import pixels_differ
from codistill.training.pixels import EXPORTED, exported_weights, pixels_of_folder
from codistill.training.student import load_student
from codistill.trusted import found_in_file

__all__ = ["load_teachers"]


def load_teachers(config: Config, data: InputRecord) -> list[nn.Module]:
    """Build all teachers that the configuration names.

    A name is a run directory (its leader teaches), a folder that `codistill export` wrote, "torchvision:NAME" or
    "timm:NAME" with the library's weights, "NETWORK@WEIGHTS" with a network's name and a state dict's path or the name
    of torchvision's weights, or "path/to/file.py:function". A teacher that was trained on images of another size, mean
    or deviation gets them so (`Resized`), where these are known.

    Args:
        config: the run.
        data: what the run's networks expect and give.

    Raises:
        UserError: a name is none of these, weights are not there or do not fit, or the teacher has other classes or
            channels than the data.
    """
    return [_load(name, data) for name in config.teachers]


def _load(name: str, data: InputRecord) -> nn.Module:
    folder = Path(name).expanduser()
    pixels = pixels_of_folder(folder)
    if pixels is not None:
        return _as_trained(_from_folder(name, folder, data), pixels, data)
    network, at, weights = name.rpartition("@")
    if at:
        return _from_weights(name, network, weights, data)
    if ".py:" in name:
        return _checked(name, models.build(name, len(data.classes), data.channels), data)
    if name.startswith(("torchvision:", "timm:")):
        return _from_library(name, name, models.PRETRAINED, data)
    raise UserError(
        f"teacher {name!r} is no finished run and no exported student: give the folder of either, torchvision:NAME, "
        "timm:NAME, NETWORK@WEIGHTS or path/to/file.py:function."
    )


def _from_folder(name: str, folder: Path, data: InputRecord) -> nn.Module:
    exported = (folder / EXPORTED).is_file()
    taught = read_record(folder / (EXPORTED if exported else INPUT), InputRecord)
    _refuse_other_classes(name, taught, data)
    names = (read_json(folder / EXPORTED)["model"],) if exported else read_config(folder / CONFIG).model
    found_in_file(names)
    if OWN_NETWORK in names:
        raise UserError(
            f"teacher {name!r} is a network that was given from Python, and its folder does not hold the network's "
            "code: choose a teacher whose network has a name (a function in a file will do)."
        )
    if not exported:
        return load_student(folder)
    return _filled(name, names[0], models.read_file(exported_weights(folder)), data)


def _from_weights(name: str, network: str, weights: str, data: InputRecord) -> nn.Module:
    """Return a network with the weights of a file, or with those that torchvision has under a name."""
    if models.find_pixels(network, weights) is not None:
        return _from_library(name, network, weights, data)
    warnings.warn(
        f"teacher {name!r} does not say what images it was trained on: it gets those of this run as they are",
        stacklevel=2,
    )
    return _checked(name, _filled(name, network, models.find_weights(network, weights), data), data)


def _from_library(name: str, model: str, which: str, data: InputRecord) -> nn.Module:
    if data.channels != 3:
        raise UserError(f"teacher {name!r} sees RGB, the data has {data.channels} channel(s): use a run as teacher.")
    network, pixels = models.pretrained_network(model, which), models.find_pixels(model, which)
    return _as_trained(_checked(name, network, data), pixels, data)


def _filled(name: str, model: str, weights: Weights, data: InputRecord) -> nn.Module:
    """Return the network with all its weights; UserError if some are missing, or are of other classes."""
    network = models.build(model, len(data.classes), data.channels, init=models.RANDOM)
    classifier = find_classifier(network)[0].name
    fitted = models.fit(weights, network, model, classifier, keep_classifier=True)
    if fitted.random:
        raise UserError(
            f"teacher {name!r}: {fitted.random[0]} is missing in {weights.source}, or has another shape than for the "
            f"{len(data.classes)} classes of the data; choose weights of the whole network, trained on these classes."
        )
    network.load_state_dict(fitted.values)
    return network


def _checked(name: str, network: nn.Module, data: InputRecord) -> nn.Module:
    classes = find_classifier(network)[0].num_classes
    if classes != len(data.classes):
        raise UserError(
            f"teacher {name!r} knows {classes} classes, the data has {len(data.classes)}: fine-tune it first."
        )
    return network


def _as_trained(network: nn.Module, pixels: Pixels | None, data: InputRecord) -> nn.Module:
    """Return the teacher, behind a layer that makes images as it knows them, if they are other ones."""
    if pixels is None or pixels.height is None or pixels.width is None:
        return network
    size = pixels.height, pixels.width
    taught = InputRecord(
        channels=data.channels, height=size[0], width=size[1], mean=pixels.mean, std=pixels.std, classes=data.classes
    )
    if pixels_differ(taught, data) is None:
        return network
    return Resized(network, (data.mean, data.std), (pixels.mean, pixels.std), size)


def _refuse_other_classes(name: str, taught: InputRecord, data: InputRecord) -> None:
    if len(taught.classes) != len(data.classes) or taught.channels != data.channels:
        raise UserError(
            f"teacher {name!r} knows {len(taught.classes)} classes in images of {taught.channels} channels, the data "
            f"has {len(data.classes)} in {data.channels}: choose a teacher that was trained on this data."
        )
    # Data without names for their classes call them "0", "1" and so on.
    unnamed = tuple(str(label) for label in range(len(data.classes)))
    if unnamed in (taught.classes, data.classes) and not set(taught.classes) & set(data.classes):
        return
    for label, (theirs, wanted) in enumerate(zip(taught.classes, data.classes, strict=True)):
        if theirs != wanted:
            raise UserError(
                f"teacher {name!r} knows other classes than the data: its class {label} is {theirs!r}, that of the "
                f"data {wanted!r}; choose a teacher that was trained on these classes, in this order."
            )
