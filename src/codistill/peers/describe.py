"""Measures what `codistill list models` shows of every named network.

python -m codistill.peers.describe      writes modelfacts.json; run it after a change to a named network
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from codistill.modelfacts import FILE
from codistill.models import OWN, TORCHVISION
from codistill.peers.defaults import default_split
from codistill.peers.features import Classifier, find_classifier
from codistill.tracing.cost import count_macs, trainable

__all__ = ["empty_network", "measure", "named_networks"]

CIFAR, IMAGENET = (100, 32), (1000, 224)
"""Classes and pixels that the networks were made for."""


def named_networks() -> Iterator[tuple[str, str, int, int]]:
    """Yield name, package, number of classes and pixels of every named network, in the order of the list."""
    for name in OWN:
        yield name, "codistill", *CIFAR
    for name in TORCHVISION:
        yield name, "torchvision", *IMAGENET


def empty_network(name: str, num_classes: int) -> nn.Module:
    """Return the network with shapes but without values; it takes no memory."""
    make: Callable[..., nn.Module] = {**OWN, **TORCHVISION}[name]
    with torch.device("meta"):
        return make(num_classes=num_classes, in_channels=3)


def measure(name: str, source: str, num_classes: int, size: int) -> dict[str, Any]:
    """Return the record of one network; `codistill.modelfacts.describe` says what it holds."""
    net = empty_network(name, num_classes)
    image = torch.empty(1, 3, size, size, device="meta")
    classifier: list[Classifier] = []
    macs = count_macs(lambda: classifier.append(find_classifier(net, example=image)[0]))
    return {
        "name": name,
        "from": source,
        "classes": num_classes,
        "image_size": size,
        "parameters": trainable(net),
        "multiply_accumulates": macs,
        "feature_width": classifier[0].width,
        "default_split": default_split(net),
    }


if __name__ == "__main__":
    records = [measure(*network) for network in named_networks()]
    # One network per line, so that a change of one is a change of one line.
    lines = ",\n".join(json.dumps(record) for record in records)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
