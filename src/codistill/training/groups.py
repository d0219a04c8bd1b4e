"""The group of networks that a configuration names."""

from __future__ import annotations

import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.peers import BranchedGroup, NetworkGroup, PeerGroup, TreeGroup
from codistill.training.check import parse_splits
from codistill.training.config import Config
from codistill.training.seeds import generator_for

__all__ = ["build_group"]


def build_group(config: Config, num_classes: int, image: tuple[int, int, int]) -> PeerGroup:
    """The group of the configuration, each peer initialised from a seed of its own.

    Args:
        config: filled in by `check_config`.
        num_classes: C.
        image: channels, height and width of the images, on which the networks are tried (without values).

    Raises:
        UserError: unknown model, split or classifier, or a network that does not fit the data.
    """
    assert config.peers is not None
    example, count = torch.empty(2, *image, device="meta"), config.peers if config.group == "networks" else 1
    names = config.model * count if len(config.model) == 1 else config.model[:count]
    sources = [generator_for(config.seed, "initialisation", peer) for peer in range(count)]
    how = config.initialisation
    networks = [_network(name, num_classes, image[0], own, how) for name, own in zip(names, sources, strict=True)]
    named = {"classifier": config.classifier, "example": example, "features": config.features}
    if config.group == "networks":
        group = NetworkGroup(networks, **named)
    elif config.group == "tree":
        group = TreeGroup(networks[0], parse_splits(config.split), sources[0], **named)
    else:
        group = BranchedGroup(networks[0], config.peers, config.split, sources[0], **named)
    if group.shape.num_classes != num_classes:
        raise UserError(
            f"model {', '.join(dict.fromkeys(config.model))} gives {group.shape.num_classes} logits for {num_classes} "
            "classes: build its last layer with the num_classes that it is given."
        )
    return group


def _network(
    name: str, num_classes: int, in_channels: int, generator: torch.Generator, initialisation: str
) -> nn.Module:
    net = models.build(name, num_classes, in_channels, generator, initialisation)
    for path, parameter in net.named_parameters():
        kind = "meta" if parameter.is_meta else str(parameter.dtype).removeprefix("torch.")
        if kind != "float32":
            raise UserError(
                f"model {name} has the {kind} parameter {path!r}: images are float32; build it with float32 parameters "
                "(--amp sets the precision of training)."
            )
    return net
