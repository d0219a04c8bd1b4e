"""The user's own data sets: any map-style `torch.utils.data.Dataset` of (image, label)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.gather import LARGE, Labelled, gather, stays_out
from codistill.data.labels import class_indices, class_names, refuse_other_names
from codistill.data.pictures import is_grey
from codistill.data.pixels import MIN_SIDE
from codistill.data.source import Parts, Request
from codistill.errors import UserError

__all__ = ["MapDataset", "load_torch"]

MapDataset = torch.utils.data.Dataset[Any]
"""Has a length, and returns (PIL image or tensor, label) for an index."""

_PARTS = ("the training part", "the test part")


def load_torch(given: MapDataset | Sequence[MapDataset], request: Request) -> Parts:
    """Take a pair (train, test), or one data set, of which a fixed 20 % becomes the test part.

    Images are PIL images, or tensors [C, H, W] (or [H, W]) of uint8 or of floats in 0 to 1. Labels are read from
    `.targets` if it has one label per image and there is no `.target_transform`; otherwise every item is read once for
    its label. Class names are read from `.classes`, and must be the same in both parts. Without `request.image_size`
    the images keep their size, which must be the same for all of them, and square if they are not kept in memory. Only
    the calling thread asks for items.

    Raises:
        UserError: there is no length, items are not pairs, labels are not class indices, class names differ between the
            parts, or images are of the wrong kind, or of different channels or sizes.
    """
    sets: list[Any] = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(sets) not in (1, 2):
        raise UserError(f"{len(sets)} data sets: give one, or a pair (train, test).")
    for dataset in sets:
        _check_form(dataset)
    first = _as_picture(_item(sets[0], 0, _PARTS[0])[0], f"image 0 of {_PARTS[0]}")
    grey, size = is_grey(first), (first.height, first.width)
    if request.image_size is None:
        _check_size(size, sum(len(dataset) for dataset in sets) * (1 if grey else 3), request.memory)
    parts: list[Labelled] = []
    names: list[tuple[str, ...] | None] = []
    for dataset, part in zip(sets, _PARTS, strict=False):
        pictures = _TorchPictures(dataset, part, grey, size if request.image_size is None else None)
        parts.append(Labelled(pictures, class_indices(_labels(dataset, part), part)))
        given_names = getattr(dataset, "classes", None)
        names.append(None if given_names is None else class_names(given_names, part))
    if names[0] and names[-1]:
        refuse_other_names(names[0], names[-1], _PARTS[1])
    count = int(max(part.labels_N.max() for part in parts)) + 1
    classes = names[0] or tuple(str(c) for c in range(count))
    test = parts[1] if len(parts) > 1 else None
    where = f"{type(sets[0]).__module__}.{type(sets[0]).__name__}"
    return gather(parts[0], test, classes, where, request, size=size, channels=1 if grey else 3)


def _check_form(dataset: Any) -> None:
    what = type(dataset).__name__
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(dataset, Mapping):
        raise UserError(
            f"{what} has no length or cannot be indexed: give a map-style torch Dataset with __len__ and __getitem__."
        )
    if not len(dataset):
        raise UserError(f"{what} is empty: give a data set with images.")


def _check_size(size: tuple[int, int], planes: int, memory: int) -> None:
    """Refuse image sizes that cannot be used; `planes` is the number of images times channels."""
    height, width = size
    if min(size) < MIN_SIDE:
        raise UserError(f"the first image has {height} × {width} pixels: give at least {MIN_SIDE}, or set image_size.")
    if height != width and stays_out(planes * height * width, size, memory):
        raise UserError(
            f"images of {height} × {width} pixels are too large to keep in memory (a side of {LARGE} or more, or more "
            "than data_memory in total): such images are decoded in every step and must be square; set image_size to "
            "the side of the square."
        )


@dataclass(frozen=True)
class _TorchPictures:
    dataset: Any
    part: str
    grey: bool
    size: tuple[int, int] | None
    # The user's code may read all images through one file handle, which threads must not share.
    light: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, index: int) -> Image.Image:
        name = self.name(index)
        image = _as_picture(_item(self.dataset, index, self.part)[0], name)
        if is_grey(image) != self.grey:
            kinds = ("colour", "grey")
            raise UserError(
                f"{name} is {kinds[is_grey(image)]} and the first training image is {kinds[self.grey]}: give all "
                "images the same channels."
            )
        if self.size is not None and (image.height, image.width) != self.size:
            raise UserError(
                f"{name} has {image.height} × {image.width} pixels and the first training image has "
                f"{self.size[0]} × {self.size[1]}: give all images the same size, or set image_size."
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
    if not pixels.numel():
        raise UserError(f"{name} has shape {list(image.shape)}: give images with pixels.")
    if pixels.is_floating_point():
        low, high = (float(value) for value in torch.aminmax(pixels.detach()))
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"{name} holds values from {low:.3g} to {high:.3g}: give uint8, or floats in 0 to 1; codistill "
                "does the normalisation."
            )
        pixels = (pixels.detach() * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise UserError(f"{name} is {pixels.dtype}: give uint8, or floats in 0 to 1.")
    array: np.ndarray = pixels.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def _labels(dataset: Any, part: str) -> Any:
    """`.targets` if it has one label per item and nothing transforms them, otherwise the labels of the items."""
    targets = getattr(dataset, "targets", None)
    listed = isinstance(targets, (list, tuple, np.ndarray, Tensor)) and len(targets) == len(dataset)
    # torchvision's `.targets` are the labels before `.target_transform`.
    if listed and getattr(dataset, "target_transform", None) is None:
        return targets
    return [_item(dataset, index, part)[1] for index in range(len(dataset))]


def _item(dataset: Any, index: int, part: str) -> Any:
    item = dataset[index]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"item {index} of {part} is a {type(item).__name__}: give tuples (image, label).")
    return item
