"""Frozen teachers for kd, from where a user has them: a run, an exported student, or torchvision with its weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.peers.features import find_classifier
from codistill.training.config import Config
from codistill.training.facts import pixels_differ
from codistill.training.files import read_json
from codistill.training.student import load_student

__all__ = ["load_teachers"]

PRETRAINED = "torchvision:"


def load_teachers(config: Config, data: Mapping[str, Any]) -> list[nn.Module]:
    """Build every teacher that the configuration names.

    A name is a run directory (its leader teaches), a folder that `codistill export` wrote, or "torchvision:NAME", which
    torchvision loads with its default weights.

    Args:
        config: the run.
        data: what its networks expect and give (`input_facts`). A teacher that learned on images of another size, mean
            or deviation gets these all the same, with a warning.

    Raises:
        UserError: nothing of these kinds is there, or the teacher has other classes or channels than the data.
    """
    return [_load(name, data) for name in config.teachers]


def _load(name: str, data: Mapping[str, Any]) -> nn.Module:
    num_classes, in_channels = len(data["classes"]), data["channels"]
    if name.startswith(PRETRAINED):
        return _from_torchvision(name.removeprefix(PRETRAINED), num_classes, in_channels)
    folder = Path(name)
    facts_file = next((f for f in (folder / "student.json", folder / "input.json") if f.is_file()), None)
    if facts_file is None:
        raise UserError(f"teacher {name!r} is no finished run and no exported student: give the folder of either.")
    facts = read_json(facts_file)
    if len(facts["classes"]) != num_classes or facts["channels"] != in_channels:
        raise UserError(
            f"teacher {name!r} knows {len(facts['classes'])} classes in images of {facts['channels']} channels, the "
            f"data has {num_classes} in {in_channels}: choose a teacher that was trained on this data."
        )
    # Data that name no classes call them "0", "1" and so on.
    unnamed = [str(label) for label in range(num_classes)]
    named = unnamed not in (facts["classes"], data["classes"]) or set(facts["classes"]) & set(data["classes"])
    for label, (taught, wanted) in enumerate(zip(facts["classes"], data["classes"], strict=True) if named else ()):
        if taught != wanted:
            raise UserError(
                f"teacher {name!r} knows other classes than the data: its class {label} is {taught!r}, that of the "
                f"data {wanted!r}; choose a teacher that was trained on these classes, in this order."
            )
    _warn_of_other_pixels(name, facts, data)
    if facts_file.name == "student.json":
        network = models.build(facts["model"], num_classes, in_channels)
        network.load_state_dict(load_file(folder / "student.safetensors"))
        return network
    return load_student(folder)


def _warn_of_other_pixels(name: str, facts: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    difference = pixels_differ(facts, data)
    if difference is not None:
        warnings.warn(f"teacher {name!r} did not learn on such images ({difference}): it may teach badly", stacklevel=2)


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
