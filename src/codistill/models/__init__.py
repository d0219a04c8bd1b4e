"""Plain networks by name, without any distillation; torch.fx can trace the forward of those of this package.

build("resnet32", num_classes=100)               the papers' networks, including torchvision's
build("torchvision:convnext_tiny", 10)           any classification network of torchvision
build("timm:vit_tiny_patch16_224", 10)           any network of timm, if it is installed
build("nets/mine.py:make", 10)                   make(num_classes=..., in_channels=...) in a file
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from codistill.errors import UserError, unknown
from codistill.models.densenet import DenseNet
from codistill.models.fit import Fit, fit
from codistill.models.foreign import elsewhere, from_file, from_timm, from_torchvision
from codistill.models.init import InitRule, draw_generator, initialise
from codistill.models.pretrained import (
    PRETRAINED,
    load_pretrained,
    names_tag,
    offered,
    pixels_of,
    pretrained_network,
)
from codistill.models.resnet import BasicBlock, Bottleneck, ResNet
from codistill.models.tiny import TINY
from codistill.models.vgg import VGG
from codistill.models.weights import Pixels, Weights, read_file
from codistill.models.wide_resnet import WideResNet

__all__ = [
    "OWN", "PRETRAINED", "RANDOM", "TORCHVISION", "Fit", "Pixels", "Weights", "available", "build", "find_pixels",
    "find_weights", "fit", "initialise", "pretrained_network", "read_file", "tag_is_ignored",
]  # fmt: skip

RANDOM = "random"
"""Stands for the parameters that a network is drawn with."""

OWN: dict[str, Callable[..., nn.Module]] = {
    "resnet20": partial(ResNet, BasicBlock, (3, 3, 3)),
    "resnet32": partial(ResNet, BasicBlock, (5, 5, 5)),
    "resnet56": partial(ResNet, BasicBlock, (9, 9, 9)),
    "resnet110": partial(ResNet, Bottleneck, (12, 12, 12)),
    "resnet110_basic": partial(ResNet, BasicBlock, (18, 18, 18)),
    "wrn20_8": partial(ResNet, Bottleneck, (2, 2, 2), width_factor=8),
    "wrn16_2": partial(WideResNet, 16, 2),
    "wrn16_4": partial(WideResNet, 16, 4),
    "wrn28_2": partial(WideResNet, 28, 2),
    "wrn28_10": partial(WideResNet, 28, 10),
    "wrn40_2": partial(WideResNet, 40, 2),
    "wrn40_4": partial(WideResNet, 40, 4),
    "vgg16": VGG,
    "densenet40_12": partial(DenseNet, 6, 12),
    "densenet40_12_plain": partial(DenseNet, 12, 12, bottleneck=False),
    **TINY,
}
"""The papers' networks for small images: called with `num_classes` and `in_channels`, initialised by `initialise`."""

TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(from_torchvision, "resnet18"),
    "resnet34": partial(from_torchvision, "resnet34"),
    "resnet50": partial(from_torchvision, "resnet50"),
    "mobilenet_v2": partial(from_torchvision, "mobilenet_v2"),
    "mobilenet_v2_x0.5": partial(from_torchvision, "mobilenet_v2", width_mult=0.5),
    "mobilenet_v2_x1.0": partial(from_torchvision, "mobilenet_v2"),
    "mobilenet_v2_x1.2": partial(from_torchvision, "mobilenet_v2", width_mult=1.2),
}
"""The papers' networks for ImageNet, from torchvision; initialised by torchvision, with the given generator."""


def available() -> list[str]:
    """The names that need no prefix, sorted; `build` also takes torchvision:NAME, timm:NAME and file.py:function."""
    return sorted({**OWN, **TORCHVISION})


def build(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    generator: torch.Generator | None = None,
    initialisation: str = "usual",
    init: str | None = None,
) -> nn.Module:
    """Return a new network that maps images [B, in_channels, H, W] to logits [B, num_classes].

    The networks in `OWN` are initialised by `initialise`. All others keep the initialisation of their authors (or the
    weights that a user's function loads), run with a seed from the generator. With a generator, torch's global random
    state is neither read nor changed; without one, it is read once.

    Args:
        name: one of `available()`, "torchvision:NAME", "timm:NAME" or "path/to/file.py:function".
        num_classes: C, 2 or more.
        in_channels: channels of the images; unless it is 3, the first convolution of torchvision's networks is
            replaced.
        generator: on the CPU; equal states give bit-equal networks.
        initialisation: "usual", or "released" for the initialisation in the released code of OKDDip's authors. They
            differ for VGG (linear layers N(0, 0.01²)) and DenseNet (convolutions by their fan-in). Only for `OWN`.
        init: "pretrained", or other weights that `find_weights` knows: they replace what was drawn, but for the
            classifier. None or "random" for none; with None, a name that names weights (timm:resnet18.a1_in1k) warns.

    Raises:
        UserError: the name or initialisation is unknown, timm is not installed, a number is out of range, the generator
            is not on the CPU, the user's function does not return an nn.Module, or the weights are not there or do not
            fit.
    """
    if num_classes < 2:
        raise UserError(f"num_classes {num_classes}: a classifier needs 2 or more.")
    if in_channels < 1:
        raise UserError(f"in_channels {in_channels}: images have 1 or more channels.")
    if initialisation not in ("usual", "released"):
        raise unknown("initialisation", initialisation, ("usual", "released"))
    make = _find(name)
    source = draw_generator(generator)
    # Layers draw from torch's global generator while they are built. Its state is restored afterwards; the values are
    # replaced, or were drawn with our seed.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=source)))
        net = make(num_classes=num_classes, in_channels=in_channels)
    if name in OWN:
        if initialisation == "released":
            net.init_rule = getattr(net, "released_init", InitRule())  # pyright: ignore[reportArgumentType]
        initialise(net, source)
    if init not in (None, RANDOM):
        _fill(net, name, init, num_classes)
    elif init is None and (ignored := tag_is_ignored(name, init)):
        warnings.warn(ignored, stacklevel=2)
    return net


def find_weights(name: str, init: str) -> Weights:
    """Return the weights that `init` names for the network `name`.

    Args:
        name: as in `build`.
        init: "pretrained", a name of torchvision's weights (IMAGENET1K_V2), or the path of a file with a state dict.

    Raises:
        UserError: there is no such file and no such weights, or they cannot be read or downloaded.
    """
    path = _file_of(name, init)
    return load_pretrained(name, init) if path is None else read_file(path)


def find_pixels(name: str, init: str) -> Pixels | None:
    """Return what the weights that `init` names were trained on, if it is known, without loading them; else None.

    Raises:
        UserError: there are no weights of that name.
    """
    return pixels_of(name, init) if _file_of(name, init) is None else None


def _file_of(name: str, init: str) -> Path | None:
    """Return the file that `init` names; None if it names weights of a library."""
    path = Path(init).expanduser()
    if init == PRETRAINED or (not path.exists() and init in offered(name)):
        return None
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"weights {init!r}: the folder holds no run and no exported student; give one, or a file.")
    names = offered(name)
    for_name = f", and {name} has no weights of that name (it has {', '.join(names)})" if names else ""
    raise UserError(
        f"weights {init!r}: there is no such file or folder{for_name}; give random, pretrained, or the path of a state "
        "dict, an exported student or a run."
    )


def _fill(net: nn.Module, name: str, init: str, num_classes: int) -> None:
    heads = (path for path, m in net.named_modules() if getattr(m, "out_features", None) == num_classes)
    classifier = [path for path in heads if path][-1:] or [""]
    fitted = fit(find_weights(name, init), net, name, classifier[0])
    if any(not missing.startswith(f"{classifier[0]}.") for missing in fitted.random):
        warnings.warn(str(fitted), stacklevel=3)
    net.load_state_dict({**net.state_dict(), **fitted.values})


def tag_is_ignored(name: str, init: str | None) -> str | None:
    """Return what to say of a network's name that names weights which are not loaded; None if there is nothing."""
    if init not in (None, RANDOM) or not names_tag(name):
        return None
    return (
        f"model {name!r} names trained weights, but the network starts at random: ask for them with --init pretrained "
        "(in Python init='pretrained'), or leave the tag out"
    )


def _find(name: str) -> Callable[..., nn.Module]:
    if name in OWN:
        return OWN[name]
    if name in TORCHVISION:
        return TORCHVISION[name]
    source, colon, rest = name.partition(":")
    if colon and source == "torchvision":
        return partial(from_torchvision, rest)
    if colon and source == "timm":
        return partial(from_timm, rest)
    if ".py:" in name:
        return partial(from_file, name)
    if name.endswith(".py"):
        raise UserError(f"model {name!r} is incomplete: add the function, {name}:FUNCTION.")
    raise unknown("model", name, [*available(), *elsewhere(name)])
