"""The user's own data sets: any map-style `torch.utils.data.Dataset` of (image, label)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.findings import Note
from codistill.data.gather import LARGE, Labelled, gather, stays_out
from codistill.data.items import draws_at_random, label_number, read_item, read_some, repeats_when_seeded
from codistill.data.labels import class_indices, class_names, refuse_other_names
from codistill.data.pictures import is_grey
from codistill.data.pixels import MIN_SIDE
from codistill.data.source import Parts, Request
from codistill.errors import UserError

__all__ = ["MapDataset", "load_torch"]

MapDataset = torch.utils.data.Dataset[Any]
"""Has a length, and returns (PIL image or tensor, label) for an index."""

_PARTS = {1: ("training",), 2: ("training", "test"), 3: ("training", "validation", "test")}
"""How many data sets there are -> which parts they are."""


def load_torch(given: MapDataset | Sequence[MapDataset], request: Request) -> Parts:
    """Take one data set, of which a fixed 20 % becomes the test part, or (train, test), or (train, validation, test).

    Images are PIL images, or tensors [C, H, W] (or [H, W]) of uint8 or of floats in 0 to 1. Labels are those of the
    items. `.targets` are used in their place if they have one label per image, if there is no `.target_transform`, and
    if they agree with a sample of the items; otherwise every item is read once for its label. Class names are read from
    `.classes`, and must be the same in all parts. Without `request.image_size` the images keep their size, which must
    be the same for all of them, and square if they are not kept in memory. Only the calling thread asks for items.

    A Dataset that draws at random is read again for every view (see `DrawnImages`).

    Raises:
        UserError: there is no length, items are not pairs, labels are not class indices or not those of `.targets`,
            class names differ between the parts, images are of the wrong kind, or of different channels or sizes, or
            the Dataset's own code fails.
    """
    sets: list[Any] = list(given) if isinstance(given, (tuple, list)) else [given]
    if any(isinstance(one, tuple) and len(one) == 2 and not isinstance(one[1], (tuple, list)) for one in sets):
        raise UserError(
            "a list of (image, label) pairs is no data set: wrap it in a torch Dataset, such as "
            "torch.utils.data.TensorDataset(images, labels)."
        )
    if len(sets) not in _PARTS:
        raise UserError(f"{len(sets)} data sets: give one, (train, test), or (train, validation, test).")
    for dataset in sets:
        _check_form(dataset)
    parts = [f"the {name} part" for name in _PARTS[len(sets)]]
    some = [read_some(dataset, part) for dataset, part in zip(sets, parts, strict=True)]
    index = min(some[0])
    first = _as_picture(some[0][index][0], f"image {index} of {parts[0]}")
    grey, size = is_grey(first), (first.height, first.width)
    random = [draws_at_random(*of) for of in zip(sets, parts, some, strict=True)]
    if request.image_size is None:
        planes = sum(len(dataset) for dataset in sets) * (1 if grey else 3)
        _check_size(size, planes, request.memory, any(random))
    notes = [_about_random(*of) for of, drawn in zip(zip(sets, parts, some, strict=True), random, strict=True) if drawn]
    made: list[Labelled] = []
    names: list[tuple[str, ...] | None] = []
    for dataset, part, items, drawn in zip(sets, parts, some, random, strict=True):
        targets, stale = _targets(dataset, part, items)
        notes += stale
        labels = targets if targets is not None else _labels(dataset, part)
        expected = None if targets is None else class_indices(targets, part).tolist()
        kept = size if request.image_size is None else None
        pictures = _TorchPictures(dataset, part, grey, kept, drawn, expected)
        made.append(Labelled(pictures, class_indices(labels, part)))
        # Where labels were changed, the old names do not belong to them.
        given_names = None if stale else getattr(dataset, "classes", None)
        names.append(None if given_names is None else class_names(given_names, part))
    return _gathered(made, names, parts, notes, sets[0], request, size, grey)


def _gathered(
    made: Sequence[Labelled],
    names: Sequence[tuple[str, ...] | None],
    parts: Sequence[str],
    notes: Sequence[Note],
    first: Any,
    request: Request,
    size: tuple[int, int],
    grey: bool,
) -> Parts:
    for other, part in zip(names[1:], parts[1:], strict=True):
        if names[0] and other:
            refuse_other_names(names[0], other, part)
    count = int(max(part.labels_N.max() for part in made)) + 1
    classes = names[0] or tuple(str(c) for c in range(count))
    test = made[-1] if len(made) > 1 else None
    validation = made[1] if len(made) > 2 else None
    where = f"{type(first).__module__}.{type(first).__name__}"
    channels = 1 if grey else 3
    return gather(
        made[0], test, classes, where, request, validation=validation, notes=notes, size=size, channels=channels,
        fixed=True,
    )  # fmt: skip


def _check_form(dataset: Any) -> None:
    what = type(dataset).__name__
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(dataset, Mapping):
        raise UserError(
            f"{what} has no length or cannot be indexed: give a map-style torch Dataset with __len__ and __getitem__."
        )
    if not len(dataset):
        raise UserError(f"{what} is empty: give a data set with images.")


def _check_size(size: tuple[int, int], planes: int, memory: int, random: bool) -> None:
    """Refuse image sizes that cannot be used; `planes` is the number of images times channels."""
    height, width = size
    if min(size) < MIN_SIDE:
        raise UserError(f"the first image has {height} × {width} pixels: give at least {MIN_SIDE}, or set image_size.")
    if height != width and random:
        raise UserError(
            f"images of {height} × {width} pixels from a Dataset that draws at random: such images are drawn again in "
            "every step and must be square; set image_size to the side of the square."
        )
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
    random: bool
    labels: list[int] | None
    # The user's code may read all images through one file handle, which threads must not share.
    light: bool = False

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, index: int) -> Image.Image:
        name = self.name(index)
        given, label = read_item(self.dataset, index, self.part)[:2]
        if self.labels is not None and label_number(label) not in (None, self.labels[index]):
            raise UserError(
                f"{name} has the label {label_number(label)}, and {self.labels[index]} in the Dataset's .targets: "
                "correct .targets, or remove them so that the labels of the items are read."
            )
        image = _as_picture(given, name)
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


def _targets(dataset: Any, part: str, items: Mapping[int, Any]) -> tuple[Any, list[Note]]:
    """`.targets` if it has one label per item, nothing transforms them, and these items agree with them; else None."""
    targets = getattr(dataset, "targets", None)
    if not isinstance(targets, (list, tuple, np.ndarray, Tensor)) or len(targets) != len(dataset):
        return None, []
    # torchvision's `.targets` are the labels before `.target_transform`.
    if getattr(dataset, "target_transform", None) is not None:
        return None, []
    for index, item in items.items():
        label, target = label_number(item[1]), label_number(targets[index])
        if None not in (label, target) and label != target:
            return None, [
                Note(
                    f"the .targets of {part} are not the labels of its items (item {index}: {target} in .targets, "
                    f"{label} in the item): the labels of the items are used, and .classes are not",
                    warns=True,
                )
            ]
    return targets, []


def _labels(dataset: Any, part: str) -> list[Any]:
    return [read_item(dataset, index, part)[1] for index in range(len(dataset))]


def _about_random(dataset: Any, part: str, items: Mapping[int, Any]) -> Note:
    text = (
        f"{part} gives other images when it is read again, as with random transforms: training reads it again for "
        "every view, and codistill adds no crop or flip; its images for validation and test are drawn once. To "
        "evaluate on undistorted images and to read each image once, give the Dataset without its random transforms "
        "and let codistill distort the images (--augment.policies)"
    )
    if not repeats_when_seeded(dataset, part, items):
        text += (
            "; its draws come from a generator of its own, so that a run cannot be repeated, and resuming it may be "
            "refused: draw from torch's, numpy's or Python's global generator"
        )
    return Note(text, warns=True)
