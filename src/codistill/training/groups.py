"""The group of networks that a configuration names."""

from __future__ import annotations

import torch

from codistill import models
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
        UserError: unknown model, split or classifier.
    """
    assert config.peers is not None
    in_channels, example = image[0], torch.empty(2, *image, device="meta")
    if config.group == "tree":
        own = generator_for(config.seed, "initialisation", 0)
        net = models.build(config.model[0], num_classes, in_channels, generator=own)
        return TreeGroup(net, parse_splits(config.split), own, classifier=config.classifier, example=example)
    names = config.model * config.peers if len(config.model) == 1 else config.model
    if config.group == "branches":
        own = generator_for(config.seed, "initialisation", 0)
        trunk = models.build(names[0], num_classes, in_channels, generator=own)
        return BranchedGroup(trunk, config.peers, config.split, own, classifier=config.classifier, example=example)
    networks = [
        models.build(name, num_classes, in_channels, generator=generator_for(config.seed, "initialisation", peer))
        for peer, name in enumerate(names)
    ]
    return NetworkGroup(networks, config.classifier, example)
