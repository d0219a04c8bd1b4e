"""What a student costs, counted from the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from codistill import models
from codistill.tracing.cost import forward_cost, trainable

__all__ = ["GROUPS", "Student", "count_student"]

GROUPS = {
    "four ResNet-50": ("resnet50",) * 4,
    "KDCL, table 6": ("resnet50", "resnet18", "mobilenet_v2", "mobilenet_v2_x0.5"),
}
"""The groups of the model, by name; the second one is the group of four students in KDCL's table 6."""


@dataclass(frozen=True)
class Student:
    """One network of a group.

    Attributes:
        name: of the network.
        macs: multiply-accumulates of one image, forward.
        parameters: trainable ones.
        features: width D of the input of the classifier.
        norms: channels of each batch norm.
        layers: convolutions, linear layers and batch norms.
    """

    name: str
    macs: int
    parameters: int
    features: int
    norms: tuple[int, ...]
    layers: int


def count_student(name: str, classes: int, image: Sequence[int]) -> Student:
    """Build the named network for images [C, H, W] and count."""
    net = models.build(name, num_classes=classes, in_channels=image[0])
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    # Two images, since a batch norm of one value per channel cannot be trained.
    macs = forward_cost(net, [(2, *image)], torch.device("cpu")).macs // 2
    channels = tuple(norm.num_features for norm in norms)
    return Student(
        name, macs, trainable(net), linear[-1].in_features, channels, len(linear) + len(norms) + convolutions
    )
