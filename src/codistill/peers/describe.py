"""What `codistill list models` shows of every named network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from codistill.models import OWN, TORCHVISION
from codistill.peers.defaults import default_split
from codistill.peers.features import Classifier, find_classifier
from codistill.tracing.cost import count_macs, trainable

__all__ = ["describe"]

CIFAR, IMAGENET = (100, 32), (1000, 224)
"""Classes and pixels that the networks were made for."""


def describe() -> list[dict[str, Any]]:
    """One record a network, ready for JSON, computed without values; no memory is taken.

    Keys: name; from (where it is defined); classes and image_size (pixels; RGB) of the numbers that follow; parameters
    (trainable), multiply_accumulates (of one image forward), feature_width, default_split.
    """
    named = [(name, "codistill", make, CIFAR) for name, make in OWN.items()]
    named += [(name, "torchvision", make, IMAGENET) for name, make in TORCHVISION.items()]
    return [{"name": name, "from": source, **_measure(make, *size)} for name, source, make, size in named]


@cache
def _measure(make: Callable[..., nn.Module], num_classes: int, size: int) -> dict[str, Any]:
    image = torch.empty(1, 3, size, size, device="meta")
    with torch.device("meta"):
        net = make(num_classes=num_classes, in_channels=3)
    classifier: list[Classifier] = []
    macs = count_macs(lambda: classifier.append(find_classifier(net, example=image)[0]))
    return {
        "classes": num_classes,
        "image_size": size,
        "parameters": trainable(net),
        "multiply_accumulates": macs,
        "feature_width": classifier[0].width,
        "default_split": default_split(net),
    }
