"""Groups of small networks that a mesh of processes could get wrong, by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from timm.layers import BatchNormAct2d
from torch import nn

import probes
from codistill import models
from codistill.peers import NetworkGroup, PeerGroup

SIZE, CLASSES = probes.SIZE, probes.CLASSES


def net(
    seed: int, width: int = 6, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, dropout: float = 0.0
) -> nn.Module:
    """Two convolutions, each with a norm, and a classifier; in memory of other costs for other widths."""
    parts = OrderedDict(
        conv1=nn.Conv2d(3, width, 3, padding=1), norm1=norm(width), act1=nn.ReLU(), drop=nn.Dropout(dropout),
        conv2=nn.Conv2d(width, width, 3, 2, 1), norm2=norm(width), act2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(width, CLASSES),
    )  # fmt: skip
    return models.initialise(nn.Sequential(parts), torch.Generator().manual_seed(seed))


def vector_net(seed: int) -> nn.Module:
    """A network with batch norm on vectors [B, D], which takes pictures."""
    parts = [nn.Flatten(), nn.Linear(3 * SIZE**2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)]
    return models.initialise(nn.Sequential(*parts), torch.Generator().manual_seed(seed))


def dense_net(seed: int) -> nn.Module:
    """A network with one prediction for each of 4x4 places, [B, C, 4, 4]."""
    parts = [nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, CLASSES, 1)]
    return models.initialise(nn.Sequential(*parts), torch.Generator().manual_seed(seed))


class Spare(nn.Module):
    """A network with a layer that it never runs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body, self.spare = net(seed), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def one_for_each(make: Callable[[int], nn.Module], peers: int = 4, **options: int) -> PeerGroup:
    example = torch.zeros(2, 3, SIZE, SIZE)
    return NetworkGroup([make(peer) for peer in range(peers)], example=example, **options).double()


def of_norm(norm: Callable[[int], nn.Module]) -> Callable[[], PeerGroup]:
    return lambda: one_for_each(lambda seed: net(seed, norm=norm))


def sure_pair() -> PeerGroup:
    """Two networks that are sure of what they say, so that the one that is right is far ahead."""
    group = one_for_each(net, 2)
    with torch.no_grad():
        for network in group.plain_network(0), group.plain_network(1):
            network.fc.weight.mul_(30)
    return group


WIDTHS = (4, 12, 6, 9, 16)
"""Of five networks, of which no two cost the same."""

GROUPS: dict[str, Callable[[], PeerGroup]] = {
    "networks": lambda: probes.group_of("networks"),
    "branches": lambda: probes.group_of("branches"),
    "tree": lambda: probes.group_of("tree"),
    "alone": lambda: one_for_each(net, 1),
    "pair": sure_pair,
    "unlike": lambda: one_for_each(lambda seed: net(seed, WIDTHS[seed]), 5),
    "dense": lambda: one_for_each(dense_net, class_axis=1),
    "vector": lambda: one_for_each(vector_net),
    "spare layer": lambda: one_for_each(Spare),
    "no norm": of_norm(lambda width: nn.Identity()),
    "group norm": of_norm(lambda width: nn.GroupNorm(2, width)),
    "momentum None": of_norm(lambda width: nn.BatchNorm2d(width, momentum=None)),
    "not affine": of_norm(lambda width: nn.BatchNorm2d(width, affine=False)),
    "untracked": of_norm(lambda width: nn.BatchNorm2d(width, track_running_stats=False)),
    "channels last": lambda: probes.group_of("networks").to(memory_format=torch.channels_last),
    "norm with activation": of_norm(lambda width: BatchNormAct2d(width, act_layer=nn.Sigmoid)),
}
"""In float64, of four students unless their name says otherwise."""
