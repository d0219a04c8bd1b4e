"""Images in memory, and a data set made of two parts.

Letters in addition to those of `codistill.types`: H, W height and width in pixels; in `images_NCHW`, C is the number of
colour channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from codistill.data.findings import Findings
from codistill.data.lazy import LazyImages
from codistill.data.policy import AugmentPolicy
from codistill.errors import UserError

__all__ = ["Dataset", "ImageSet", "Images", "Resize"]

Resize = Literal["cover", "shorter_side", "squash", "none"]
"""How a picture of any size becomes an image of evaluation: scaled until it covers height × width, and its centre
cropped; its shorter side scaled to `LazyImages.shorter_side`, and its centre cropped; scaled to height × width whatever
its ratio; or not at all, since all pictures must have that size."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels, all in memory.

    Attributes:
        images_NCHW: uint8, 0 to 255, one channel (grey) or three (RGB).
        labels_N: int64 class indices.
        groups_N: int64, or None; images of one group (for glyphs: of one font face) are never on both sides of a split.

    Raises:
        UserError: a tensor has a different shape or dtype.
    """

    images_NCHW: Tensor
    labels_N: Tensor
    groups_N: Tensor | None = None

    def __post_init__(self) -> None:
        images = self.images_NCHW
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise UserError(f"images are {images.dtype} {list(images.shape)}: give uint8 of shape [N, C, H, W].")
        for name, tensor in (("labels", self.labels_N), ("groups", self.groups_N)):
            if tensor is not None and (tensor.dtype != torch.int64 or tensor.shape != images.shape[:1]):
                raise UserError(
                    f"{name} are {tensor.dtype} {list(tensor.shape)} for {len(images)} images: give one int64 per "
                    "image."
                )

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    def to(self, device: torch.device) -> ImageSet:
        """Return the images and labels in the memory of a device."""
        groups = None if self.groups_N is None else self.groups_N.to(device)
        return ImageSet(self.images_NCHW.to(device), self.labels_N.to(device), groups)

    def take(self, index_N: Tensor) -> ImageSet:
        """Return the images of these indices (int64 or a mask), in the order given."""
        groups = None if self.groups_N is None else self.groups_N[index_N]
        return ImageSet(self.images_NCHW[index_N], self.labels_N[index_N], groups)


Images = ImageSet | LazyImages
"""One part of a data set: in memory, or decoded whenever it is needed."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with everything that a run needs to know about it.

    Attributes:
        name: as in `codistill list data`.
        train: training images, the validation part not yet split off; the last ones are the user's own validation
            part, if there is one.
        test: test images of the same channels, height and width.
        classes: the classes' names, by label.
        mean: one number per channel, for images scaled to 0..1.
        std: likewise.
        augment: the default distortion of these images; its crop and flip apply where a run's settings leave them out.
        epochs: default length of a run.
        found_at: path, "scikit-learn" or "shipped with codistill".
        validation_images: how many of the last images of `train` are a validation part of the user's own; 0: there is
            none, and a share of the training images is split off.
        findings: what was noticed while the user's own images were read; None for all other data.
        resize: how the pictures became the images of evaluation, and others must (`codistill predict`); None:
            "shorter_side" for images in files, "none" for others.

    Raises:
        UserError: the validation part leaves no training images, training and test images differ in shape, a label has
            no class, `augment` is out of range, or `mean` and `std` do not have one number per channel.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: AugmentPolicy
    epochs: int
    found_at: str
    validation_images: int = 0
    findings: Findings | None = None
    resize: Resize | None = None

    @property
    def training_images(self) -> int:
        """How many of the first images of `train` are no validation images of the user's own."""
        return len(self.train) - self.validation_images

    def __post_init__(self) -> None:
        self.augment.check()
        train, test = list(self.train.shape), list(self.test.shape)
        if train != test:
            raise UserError(f"training images are {train} and test images {test}: give both the same [C, H, W].")
        if not len(self.mean) == len(self.std) == train[0]:
            raise UserError(
                f"{len(self.mean)} means and {len(self.std)} deviations for images of {train[0]} channels: give one "
                "per channel."
            )
        if not 0 <= self.validation_images < max(len(self.train), 1):
            raise UserError(
                f"validation_images {self.validation_images} of {len(self.train)} training images: at least one image "
                "must be left to train on."
            )
        for part in (self.train, self.test):
            outside = (part.labels_N < 0) | (part.labels_N >= len(self.classes))
            if outside.any():
                raise UserError(
                    f"label {int(part.labels_N[outside][0])} with {len(self.classes)} classes: labels are 0 to "
                    f"{len(self.classes) - 1}; name every class or correct the label."
                )
