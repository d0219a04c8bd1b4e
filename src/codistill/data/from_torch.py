"""Data sets of the user's own making: any map-style `torch.utils.data.Dataset` of (image, label)."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.gather import Labelled, gather
from codistill.data.pictures import is_grey
from codistill.data.source import Parts, Request
from codistill.errors import UserError

__all__ = ["MapDataset", "load_torch"]

MapDataset = torch.utils.data.Dataset[Any]
"""Gives (PIL image or tensor, label) by index and has a length."""


def load_torch(given: MapDataset | Sequence[MapDataset], request: Request) -> Parts:
    """Take one data set, of which a fixed 20 % become the test part, or a pair (train, test).

    Images are PIL images, or tensors [C, H, W] (or [H, W]) of uint8, or of floats in 0 to 1. Labels come from
    `.targets` if there are as many, otherwise every item is read once for its label; class names from `.classes`.
    Without `request.image_size` the images' own size is kept, which all must then have.

    Raises:
        UserError: no length, labels that are no class indices, or images of other kinds, channels or sizes.
    """
    sets = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(sets) not in (1, 2):
        raise UserError(f"{len(sets)} data sets: give one, or a pair (train, test).")
    for dataset in sets:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise UserError(
                f"{type(dataset).__name__} has no length or no items by index: give a map-style torch Dataset with "
                "__len__ and __getitem__."
            )
        if not len(dataset):  # pyright: ignore[reportArgumentType]
            raise UserError(f"{type(dataset).__name__} is empty: give a data set with images.")
    first = _as_picture(sets[0][0][0], "image 0 of the training part")
    grey, size = is_grey(first), (first.height, first.width)
    parts = []
    for dataset, part in zip(sets, ("training", "test"), strict=False):
        pictures = _TorchPictures(dataset, f"the {part} part", grey, size if request.image_size is None else None)
        parts.append(Labelled(pictures, _labels(dataset, part)))
    names = getattr(sets[0], "classes", None)
    count = int(max(part.labels_N.max() for part in parts)) + 1
    classes = tuple(str(name) for name in names) if names is not None else tuple(str(c) for c in range(count))
    test = parts[1] if len(parts) > 1 else None
    where = f"{type(sets[0]).__module__}.{type(sets[0]).__name__}"
    return gather(parts[0], test, classes, where, request, size=size, channels=1 if grey else 3)


@dataclass(frozen=True)
class _TorchPictures:
    dataset: Any
    part: str
    grey: bool
    size: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, index: int) -> Image.Image:
        name = self.name(index)
        image = _as_picture(self.dataset[index][0], name)
        if is_grey(image) != self.grey:
            kinds = ("colour", "grey")
            raise UserError(
                f"{name} is {kinds[is_grey(image)]} and the first training image {kinds[self.grey]}: give all images "
                "the same channels."
            )
        if self.size is not None and (image.height, image.width) != self.size:
            raise UserError(
                f"{name} has {image.height} × {image.width} pixels and the first training image {self.size[0]} × "
                f"{self.size[1]}: give all images one size, or set image_size."
            )
        return image

    def name(self, index: int) -> str:
        return f"image {index} of {self.part}"


def _as_picture(image: Any, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, Tensor):
        raise UserError(f"{name} is a {type(image).__name__}: give a PIL image, or a tensor [C, H, W].")
    pixels = image.unsqueeze(0) if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise UserError(f"{name} has shape {list(image.shape)}: give [C, H, W] with one channel (grey) or three (RGB).")
    if pixels.is_floating_point():
        low, high = (float(value) for value in torch.aminmax(pixels))
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"{name} holds values from {low:.3g} to {high:.3g}: give uint8, or floats in 0 to 1; codistill "
                "normalises by itself."
            )
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise UserError(f"{name} is {pixels.dtype}: give uint8, or floats in 0 to 1.")
    array: np.ndarray = pixels.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def _labels(dataset: Any, part: str) -> Tensor:
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset):
        targets = [dataset[index][1] for index in range(len(dataset))]
    for index, label in enumerate(targets):
        whole = isinstance(label, numbers.Integral) or (
            isinstance(label, Tensor) and label.ndim == 0 and not label.is_floating_point()
        )
        if not whole or int(label) < 0:
            raise UserError(
                f"the label of image {index} of the {part} part is {label!r}: give class indices from 0 on."
            )
    return torch.tensor([int(label) for label in targets])
