"""Trained weights that torchvision and timm offer for a network's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from codistill.errors import UserError, one_line, unknown
from codistill.models.foreign import import_timm
from codistill.models.weights import Pixels, Weights

__all__ = ["PRETRAINED", "load_pretrained", "names_tag", "offered", "pixels_of", "pretrained_network"]

PRETRAINED = "pretrained"
"""Stands for the weights that a library recommends for a network."""

R = TypeVar("R")


def names_tag(model: str) -> bool:
    """Whether the name of a network names its weights too, as timm:resnet18.a1_in1k does."""
    return model.startswith("timm:") and "." in model


def offered(model: str) -> tuple[str, ...]:
    """Return the names of the weights that torchvision has for a network; none for other networks."""
    library, name = _library(model)
    if library != "torchvision":
        return ()
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown("torchvision model", name, models.list_models(module=models))
    return tuple(weights.name for weights in models.get_model_weights(name))


def load_pretrained(model: str, which: str = PRETRAINED) -> Weights:
    """Return the weights `which` of a network: "pretrained", or one of `offered`; downloaded if they are not here.

    Raises:
        UserError: there are none, or they can neither be found nor downloaded.
    """
    net = pretrained_network(model, which)
    library, name = _offering(model)
    chosen = net.pretrained_cfg["tag"] if library == "timm" else _of_torchvision(name, which).name  # pyright: ignore
    return Weights(net.state_dict(), f"{library}'s {name.partition('.')[0]} {chosen}".rstrip(), pixels_of(model, which))


def pretrained_network(model: str, which: str = PRETRAINED) -> nn.Module:
    """Return the whole network with its weights and its own classes; arguments and errors as `load_pretrained`."""
    library, name = _offering(model)
    # Libraries draw a network before they fill it; the caller's random state must not notice.
    with torch.random.fork_rng(devices=[]):
        if library == "timm":
            timm, known = import_timm(name), pixels_of(model, which)
            if known is None:
                raise UserError(f"model {model!r}: timm has no pretrained weights for it; give a file of weights.")
            where = f"with 'hf download {_timm_config(name)['hf_hub_id']}'" if _timm_config(name)["hf_hub_id"] else ""
            return _had(model, lambda: timm.create_model(name, pretrained=True), where)
        from torchvision import models

        weights = _of_torchvision(name, which)
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        return _had(model, lambda: models.get_model(name, weights=weights), f"from {weights.url} to {place}")


def pixels_of(model: str, which: str = PRETRAINED) -> Pixels | None:
    """Return what images these weights were trained on, without loading them; None if the library has no weights."""
    library, name = _offering(model)
    if library == "timm":
        config = _timm_config(name)
        if not any(config.get(key) for key in ("url", "hf_hub_id", "file")):
            return None
        return Pixels(tuple(config["mean"]), tuple(config["std"]), *config["input_size"][1:])
    transforms = _of_torchvision(name, which).transforms()
    side = transforms.crop_size[0]
    return Pixels(tuple(transforms.mean), tuple(transforms.std), side, side)


def _library(model: str) -> tuple[str, str]:
    """Return "torchvision" or "timm" and the name there."""
    from codistill.models import TORCHVISION  # late: that module imports this one

    source, colon, rest = model.partition(":")
    if colon and source in ("torchvision", "timm"):
        return source, rest
    entry: Any = TORCHVISION.get(model)
    if entry is None or entry.keywords.get("width_mult", 1.0) != 1.0:
        return "", model
    return "torchvision", entry.args[0]


def _offering(model: str) -> tuple[str, str]:
    library, name = _library(model)
    if not library:
        raise UserError(f"model {model!r} comes without pretrained weights: give a file of weights or start at random.")
    return library, name


def _of_torchvision(name: str, which: str) -> Any:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown("torchvision model", name, models.list_models(module=models))
    there = models.get_model_weights(name)
    if not len(there):
        raise UserError(f"model 'torchvision:{name}': torchvision has no weights for it; give a file of weights.")
    if which == PRETRAINED:
        return there["DEFAULT"]
    if which not in there.__members__:
        raise unknown(f"weights of torchvision:{name}", which, [weights.name for weights in there])
    return there[which]


def _timm_config(name: str) -> dict[str, Any]:
    timm = import_timm(name)
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UserError(f"model 'timm:{name}': {one_line(error).rstrip('.')}; see timm.list_pretrained().") from error
    return config.to_dict() if config is not None else {}


def _had(model: str, make: Callable[[], R], by_hand: str) -> R:
    try:
        return make()
    except Exception as error:
        by_hand = f"put them there by hand {by_hand}, " if by_hand else ""
        raise UserError(
            f"the pretrained weights of {model!r} could not be loaded ({one_line(error)[:200].rstrip('.')}): {by_hand}"
            "or give a file of weights."
        ) from error
