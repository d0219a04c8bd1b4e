"""One task for both sides: random images in memory, our epoch on them, and the loaders that the other code reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from codistill.data import AugmentPolicy, Dataset, Images, ImageSet
from codistill.rundir import Evaluation
from codistill.training import Config, OptimConfig
from codistill.training.build import build_session
from codistill.training.loop import Trained, evaluate, train_epoch
from codistill.training.observers import Watchers
from codistill.training.session import Session
from ratios.steps import TINY, Size

__all__ = ["TINY_MODEL", "Task", "sgd", "tiny"]

OPTIM = OptimConfig(lr=0.01, schedule="constant")
"""Nesterov SGD and weight decay as in the released OKDDip code; the rate is low because the images are noise."""


def tiny(num_classes: int, in_channels: int) -> nn.Module:
    """Return the network of `TINY`; a configuration names it by this function."""
    return TINY.make(num_classes, in_channels)


TINY_MODEL = f"{__file__}:tiny"


@dataclass(frozen=True)
class Task:
    """What both sides do.

    Attributes:
        size: network, images and batch.
        model: name of the network in a configuration.
        batches: batches of a training epoch; an evaluation has a quarter of them, and at least one.
        peers: number of students.
        method, options: the method and its options.
        group, executor: as in `Config`.
    """

    size: Size
    model: str
    batches: int
    peers: int
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    group: Literal["networks", "branches"] = "networks"
    executor: Literal["loop", "fused"] = "loop"

    @cached_property
    def session(self) -> Session:
        """Our run, built as `codistill train` builds it; nothing is written to disk."""
        config = Config(
            method=self.method,
            model=(self.model,),
            peers=self.peers,
            group=self.group,
            executor=self.executor,
            batch_size=self.size.batch,
            validation=1 / (self.batches + 1),
            device="cpu",
            optim=OPTIM,
            method_options=self.options,
        )
        return build_session(config, self._dataset())

    def our_epoch(self) -> Trained:
        """Train one epoch, from images to its metrics."""
        return train_epoch(self.session, Watchers())

    def our_evaluation(self) -> Evaluation:
        """Evaluate, from images to every score of every student and ensemble."""
        return evaluate(self.session, self.session.dataset.test, self.session.executor.method.leader)

    def loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return the same images for training and for evaluation, in torchvision's pipeline for CIFAR."""
        data, split = self.session.dataset, self.session.splits
        # If the validation part is not one batch exactly, a few images are left over; ours trains on whole batches.
        train = data.train.take(split.train_N[: self.batches * self.size.batch])
        plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        crop = transforms.RandomCrop(self.size.image[1], padding=data.augment.crop_padding)
        distorted = [crop, transforms.RandomHorizontalFlip(), *plain]
        return (
            DataLoader(_Pictures(train, distorted), self.size.batch, shuffle=True),
            DataLoader(_Pictures(data.test, plain), self.size.batch),
        )

    def networks(self) -> list[nn.Module]:
        """Return new networks of ours for the other code to train."""
        return [self.size.make(self.size.classes, self.size.image[0]) for _ in range(self.peers)]

    def _dataset(self) -> Dataset:
        generator, size = torch.Generator().manual_seed(0), self.size

        def part(batches: int) -> ImageSet:
            N = batches * size.batch
            images = torch.randint(256, (N, *size.image), dtype=torch.uint8, generator=generator)
            return ImageSet(images, torch.arange(N) % size.classes)

        # One batch more, which the session splits off for validation.
        train, test = part(self.batches + 1), part(max(self.batches // 4, 1))
        classes, C = tuple(map(str, range(size.classes))), size.image[0]
        augment = AugmentPolicy(crop_padding=size.image[1] // 8, flip=True)
        return Dataset("random", train, test, classes, (0.5,) * C, (0.25,) * C, augment, 300, "memory")


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that `OPTIM` describes, built in the usual way."""
    return torch.optim.SGD(
        network.parameters(),
        OPTIM.lr_used,
        OPTIM.momentum,
        nesterov=OPTIM.nesterov,
        weight_decay=OPTIM.weight_decay_used,
    )


class _Pictures(torch.utils.data.Dataset[Any]):
    """Images as torchvision's data sets hold them: an array becomes a PIL image, which goes through the transforms."""

    def __init__(self, images: Images, steps: list[Callable[[Any], Any]]) -> None:
        assert isinstance(images, ImageSet)
        arrays = images.images_NCHW.movedim(1, -1).contiguous().numpy()
        self.arrays = arrays[..., 0] if arrays.shape[-1] == 1 else arrays
        self.labels, self.transform = images.labels_N.tolist(), transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]
