"""Where a network is cut when the user names no split: before its last stage, or two thirds of the way."""

from __future__ import annotations

import math

from torch import nn

from codistill.errors import UserError

__all__ = ["default_split"]

_NAMED = (
    "layer4",
    "layer3",
    "stage4",
    "features.denseblock4",
    "trunk_output.block4",
    "inception5a",
    "Mixed_7a",
    "mixed_7a",
    "s4",
    "level5",
    "body.layer4",
    "stage3",
    "block12",
)
_LAST_CHILD = ("stages", "levels", "transformers", "network", "dense_stages")
_TWO_THIRDS = ("encoder.layers", "encoder.blocks", "blocks", "layers", "features")


def default_split(net: nn.Module) -> str:
    """Return the module before which `net` is split into trunk and branches.

    A network may say it itself, as those of codistill.models do: a string attribute `default_split`. Else, in this
    order: a module of a known name (`layer4` of torchvision's and timm's ResNets is res4 of the KDCL paper); the last
    child of `stages`; of `encoder.layers`, `encoder.blocks`, `blocks`, `layers` or `features` the last child that
    halves the resolution in a convolution (MobileNetV2: features.14), and where none does, the one two thirds of the
    way (ViT-B: blocks.8).

    Raises:
        UserError: none of this is there.
    """
    said = getattr(net, "default_split", None)
    if isinstance(said, str):
        return said
    modules = dict(net.named_modules())
    for name in _NAMED:
        if name in modules:
            return name
    for name in _LAST_CHILD:
        if name in modules and len(children := list(modules[name].named_children())) > 1:
            return f"{name}.{children[-1][0]}"
    for name in _TWO_THIRDS:
        if name in modules and len(children := list(modules[name].named_children())) > 1:
            return f"{name}.{children[_turning_point([child for _, child in children])][0]}"
    candidates = ", ".join([name for name in modules if name and name.count(".") < 2][:20])
    raise UserError(f"{type(net).__name__} has no default split: name the module where branches begin: {candidates}.")


def _turning_point(children: list[nn.Module]) -> int:
    halving = [i for i, child in enumerate(children) if any(_halves(part) for part in child.modules())]
    if halving and halving[-1] >= len(children) // 2:
        return halving[-1]
    return math.ceil(2 * len(children) / 3)


def _halves(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.conv._ConvNd) and max(part.stride) > 1
