"""Own methods, one for each need, written as a user would; and groups of small networks to try them on."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from codistill import models
from codistill.peers import BranchedGroup, NetworkGroup, PeerGroup, TreeGroup

CLASSES, PEERS, SIZE = 5, 4, 8

METHODS_FILE = '''
"""Methods that each use one need, and one that uses nearly all of them."""

import torch

from codistill.losses import cross_entropy, soft_kl, softmax
from codistill.methods import Method, Needs
from codistill.types import StepOutput


class Probe(Method):
    min_peers = 1

    def __init__(self, shape, *, path: str = "last"):
        super().__init__(shape, path=path)
        self.path = path
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("held", torch.ones(shape.peers))

    def extra_P(self, rows):
        return torch.zeros_like(rows.cross_entropy_P())

    def moved_P(self, rows):
        return None

    def step(self, rows, progress):
        self.calls += 1
        ce_P, extra_P = rows.cross_entropy_P(), self.extra_P(rows)
        loss_P = ce_P + 0.3 * extra_P
        parts = {"ce": ce_P.detach().sum(), "extra": extra_P.detach().sum()}
        return StepOutput(loss_P.sum(), loss_P, parts, update_P=self.moved_P(rows))


class Maps(Probe):
    @classmethod
    def needs_of(cls, options):
        return Needs(maps=(options.get("path", "last"),))

    def extra_P(self, rows):
        return torch.stack([x.square().mean() for x in rows.outputs.maps[self.path]])


class Heads(Probe):
    @classmethod
    def needs_of(cls, options):
        return Needs(heads=(options.get("path", "last"),))

    def extra_P(self, rows):
        z = rows.heads[self.path]
        ce_P = rows.mean(cross_entropy(z, rows.labels.expand(len(z), *rows.labels.shape)))
        return ce_P + rows.mean(soft_kl(softmax(rows.logits_PNC.detach(), 2.0), z, 2.0))


class Mixed(Probe):
    needs = Needs(mixed=True)

    def extra_P(self, rows):
        return rows.mean(soft_kl(softmax(rows.mixed_NC, 1.0), rows.logits_PNC, 1.0))


class Averaged(Probe):
    needs = Needs(averaged=0.9, features=True)

    def extra_P(self, rows):
        pairs = zip(rows.features, rows.averaged_features, strict=True)
        distance_P = torch.stack([(h - g).square().mean() for h, g in pairs])
        return rows.mean(soft_kl(softmax(rows.averaged_PNC, 1.0), rows.logits_PNC, 1.0)) + distance_P


class Taught(Probe):
    needs = Needs(teachers="allowed")

    def extra_P(self, rows):
        if rows.teacher_logits_KNC is None:
            return super().extra_P(rows)
        return rows.mean(soft_kl(softmax(rows.teacher_logits_KNC, 2.0).mean(0), rows.logits_PNC, 2.0))


class TaughtTree(Taught):
    needs = Needs(teachers="allowed", rescale_shared_gradients=True)


class Paused(Probe):
    def moved_P(self, rows):
        moved = torch.ones(self.shape.peers, dtype=torch.bool)
        moved[0] = self.calls % 2 == 0
        return moved


class Turns(Probe):
    needs = Needs(turns=True)

    def extra_P(self, rows):
        return rows.mean(soft_kl(softmax(rows.logits_PNC.detach().mean(0), 2.0), rows.logits_PNC, 2.0))


class HeldOut(Probe):
    needs = Needs(held_out=0.2)

    def extra_P(self, rows):
        return self.held.to(rows.logits_PNC.dtype) * rows.cross_entropy_P()

    def renew(self, probs_PNC, labels_N):
        self.held.copy_(probs_PNC[:, torch.arange(len(labels_N)), labels_N].mean(1))


class Everything(Probe):
    needs = Needs(
        features=True, maps=("last",), heads=("stage2", "last"), teachers="allowed", averaged=0.9, mixed=True,
        held_out=0.2, rescale_shared_gradients=True,
    )

    def extra_P(self, rows):
        found = [kind.extra_P(self, rows) for kind in (Maps, Heads, Mixed, Averaged, HeldOut)]
        return sum(found) + Taught.extra_P(self, rows) if rows.teacher_logits_KNC is not None else sum(found)

    def renew(self, probs_PNC, labels_N):
        HeldOut.renew(self, probs_PNC, labels_N)

    def moved_P(self, rows):
        return Paused.moved_P(self, rows)
'''

NETWORK_FILE = """
from collections import OrderedDict

from torch import nn


def net(num_classes, in_channels=1):
    def stage(a, b, stride=1):
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.Dropout(0.2))

    return nn.Sequential(OrderedDict(
        stem=stage(in_channels, 4), stage1=stage(4, 6, 2), stage2=stage(6, 6), pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(), fc=nn.Linear(6, num_classes),
    ))
"""


def write_probes(folder: Path) -> Path:
    """The file of the methods."""
    path = folder / "own_methods.py"
    path.write_text(METHODS_FILE)
    return path


def write_network(folder: Path) -> str:
    """The file of a network with the stages that the probes name, as a model's name."""
    path = folder / "staged.py"
    path.write_text(NETWORK_FILE)
    return f"{path}:net"


def staged(seed: int = 0, channels: int = 3, dropout: float = 0.0, norm: bool = True) -> nn.Sequential:
    """A network of a stem, two stages and a classifier, which every executor runs."""

    def stage(a: int, b: int, stride: int = 1) -> nn.Sequential:
        kind = nn.BatchNorm2d(b) if norm else nn.GroupNorm(2, b)
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), kind, nn.ReLU(), nn.Dropout(dropout))

    parts = OrderedDict(
        stem=stage(channels, 4), stage1=stage(4, 6, 2), stage2=stage(6, 6), pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(), fc=nn.Linear(6, CLASSES),
    )  # fmt: skip
    return models.initialise(nn.Sequential(parts), torch.Generator().manual_seed(seed))


def group_of(kind: str, **options) -> PeerGroup:
    """Four peers in float64."""
    example = torch.zeros(2, 3, SIZE, SIZE)
    if kind == "networks":
        group = NetworkGroup([staged(peer, **options) for peer in range(PEERS)], example=example)
    elif kind == "branches":
        generator = torch.Generator().manual_seed(9)
        group = BranchedGroup(staged(**options), PEERS, "stage1", generator, example=example)
    else:
        splits = {"stage1": 2, "stage2": 2}
        group = TreeGroup(staged(**options), splits, torch.Generator().manual_seed(9), example=example)
    return group.double()


def batch_of(images: int = 6, count: int = 1, seed: int = 1) -> tuple[list[torch.Tensor], torch.Tensor]:
    """One view per peer or one for all, and labels."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(count, images, 3, SIZE, SIZE, generator=generator, dtype=torch.float64).unbind()
    return list(views), torch.randint(CLASSES, (images,), generator=generator)
