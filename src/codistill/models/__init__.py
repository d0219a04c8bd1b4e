"""Plain networks by name, without any distillation; torch.fx can trace the forward of those of this package.

build("resnet32", num_classes=100)               the papers' networks, including torchvision's
build("torchvision:convnext_tiny", 10)           any classification network of torchvision
build("timm:vit_tiny_patch16_224", 10)           any network of timm, if it is installed
build("nets/mine.py:make", 10)                   make(num_classes=..., in_channels=...) in a file
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from codistill.errors import UserError, unknown
from codistill.models.densenet import DenseNet
from codistill.models.foreign import from_file, from_timm, from_torchvision
from codistill.models.init import InitRule, draw_generator, initialise
from codistill.models.resnet import BasicBlock, Bottleneck, ResNet
from codistill.models.tiny import TINY
from codistill.models.vgg import VGG
from codistill.models.wide_resnet import WideResNet

__all__ = ["OWN", "TORCHVISION", "available", "build", "initialise"]

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

    Raises:
        UserError: the name or initialisation is unknown, timm is not installed, a number is out of range, the generator
            is not on the CPU, or the user's function does not return an nn.Module.
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
    if name not in OWN:
        return net
    if initialisation == "released":
        net.init_rule = getattr(net, "released_init", InitRule())  # pyright: ignore[reportArgumentType]
    return initialise(net, source)


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
    raise unknown("model", name, available())
