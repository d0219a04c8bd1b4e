"""Frozen teachers: from a run, from an exported student, or from torchvision with its weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from codistill import models
from codistill.config import Config, read_config
from codistill.errors import UserError
from codistill.peers.features import find_classifier
from codistill.rundir import CONFIG, INPUT, OWN_NETWORK, InputRecord, read_json, read_record
from codistill.training.input_record import pixels_differ
from codistill.training.student import load_student

__all__ = ["load_teachers"]

PRETRAINED = "torchvision:"

EXPORTED = "student.json"
"""What `codistill export` writes next to the weights."""


def load_teachers(config: Config, data: InputRecord) -> list[nn.Module]:
    """Build all teachers that the configuration names.

    A name is a run directory (its leader teaches), a folder that `codistill export` wrote, or "torchvision:NAME", which
    torchvision loads with its default weights.

    Args:
        config: the run.
        data: what the run's networks expect and give. A teacher that was trained on images of another size, mean or
            deviation is used as it is, with a warning.

    Raises:
        UserError: a name is none of these, or the teacher has other classes or channels than the data.
    """
    return [_load(name, data) for name in config.teachers]


def _load(name: str, data: InputRecord) -> nn.Module:
    if name.startswith(PRETRAINED):
        return _from_torchvision(name.removeprefix(PRETRAINED), len(data.classes), data.channels)
    folder = Path(name)
    file = next((f for f in (folder / EXPORTED, folder / INPUT) if f.is_file()), None)
    if file is None:
        raise UserError(f"teacher {name!r} is no finished run and no exported student: give the folder of either.")
    taught = read_record(file, InputRecord)
    _refuse_other_classes(name, taught, data)
    _warn_of_other_pixels(name, taught, data)
    exported = file.name == EXPORTED
    names = (read_json(file)["model"],) if exported else read_config(folder / CONFIG).model
    if OWN_NETWORK in names:
        raise UserError(
            f"teacher {name!r} is a network that was given from Python, and its folder does not hold the network's "
            "code: choose a teacher whose network has a name (a function in a file will do)."
        )
    if not exported:
        return load_student(folder)
    network = models.build(names[0], len(data.classes), data.channels)
    network.load_state_dict(load_file(folder / "student.safetensors"))
    return network


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


def _warn_of_other_pixels(name: str, taught: InputRecord, data: InputRecord) -> None:
    difference = pixels_differ(taught, data)
    if difference is not None:
        warnings.warn(f"teacher {name!r} was trained on other images ({difference}): it may teach badly", stacklevel=2)


def _from_torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    if in_channels != 3:
        raise UserError(
            f"teacher 'torchvision:{name}' sees RGB, the data has {in_channels} channel(s): use a run as teacher."
        )
    from torchvision import models as theirs  # late, as in models/foreign.py

    if name not in theirs.list_models(module=theirs):
        raise UserError(f"teacher 'torchvision:{name}': torchvision has no such classification network.")
    try:
        network = theirs.get_model(name, weights="DEFAULT")
    except OSError as error:
        raise UserError(
            f"teacher 'torchvision:{name}': its weights could not be downloaded ({error}); put the file in torch's hub "
            "cache, or use a run as teacher."
        ) from error
    classes = find_classifier(network)[0].num_classes
    if classes != num_classes:
        raise UserError(
            f"teacher 'torchvision:{name}' knows {classes} classes, the data has {num_classes}: fine-tune it first."
        )
    return network
