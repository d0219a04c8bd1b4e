"""Items of the user's own Dataset: its errors as its own, and whether it draws at random."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.drawn import drawing_from
from codistill.data.pictures import PictureError
from codistill.errors import UserError, one_line

__all__ = ["DatasetError", "draws_at_random", "label_number", "read_item", "read_some", "repeats_when_seeded"]

_SOME = 16
"""How many items are read to learn what a Dataset is like: of a coin per item, all agree once in 65,536 times."""


class DatasetError(UserError):
    """The Dataset's own code failed; the cause is its error, also if this one comes from another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_cause, (str(self), _portable(self.__cause__))


def read_item(dataset: Any, index: int, part: str) -> Any:
    """Return an item, which begins with image and label.

    Raises:
        PictureError: the Dataset's code raised an OSError, as for an image that cannot be read.
        DatasetError: it raised anything else.
        UserError: the item is no pair.
    """
    name = f"image {index} of {part}"
    try:
        item = dataset[index]
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error)}, at {_place(error)}"
        message = f"{name}: the Dataset's own code failed ({said}): correct the Dataset or its files."
        raise (PictureError(message, name, said) if isinstance(error, OSError) else DatasetError(message)) from error
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"item {index} of {part} is a {type(item).__name__}: give tuples (image, label).")
    return item


def read_some(dataset: Any, part: str) -> dict[int, Any]:
    """Return up to 16 items, spread over the Dataset and with the first of all, by index.

    Images that cannot be read are missing; PictureError if that leaves none.
    """
    count = len(dataset)
    found: dict[int, Any] = {}
    failed: PictureError | None = None
    for index in sorted({place * count // _SOME for place in range(_SOME)}):
        try:
            found[index] = read_item(dataset, index, part)
        except PictureError as bad:
            failed = failed or bad
    if not found and failed is not None:
        raise failed
    return found


def draws_at_random(dataset: Any, part: str, first: Mapping[int, Any]) -> bool:
    """Whether the image of any of these items is another one when it is read again."""
    return any(not _same_image(item[0], read_item(dataset, index, part)[0]) for index, item in first.items())


def repeats_when_seeded(dataset: Any, part: str, first: Mapping[int, Any]) -> bool:
    """Whether the images of these items depend on nothing but the global generators."""
    for index in first:
        images = []
        for _ in range(2):
            with drawing_from(index):
                images.append(read_item(dataset, index, part)[0])
        if not _same_image(*images):
            return False
    return True


def label_number(label: Any) -> int | None:
    """The label of an item as a number, or None if it is not a single whole number."""
    if isinstance(label, Tensor) and (label.ndim or label.is_floating_point()):
        return None
    try:
        return int(label) if float(label) == int(label) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _same_image(a: Any, b: Any) -> bool:
    if isinstance(a, Image.Image) and isinstance(b, Image.Image):
        try:
            return (a.mode, a.size, a.tobytes()) == (b.mode, b.size, b.tobytes())
        except OSError:  # An image that cannot be decoded is reported when it is used.
            return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return True


def _place(error: BaseException) -> str:
    """File and line of the innermost code that is the user's own; of the error itself if there is none."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if not _is_library(frame.filename)]
    frame = (own or frames or traceback.extract_tb(error.__traceback__))[-1]
    return f"{frame.filename}:{frame.lineno}"


def _is_library(file: str) -> bool:
    folders = Path(file).parts
    return "site-packages" in folders or "dist-packages" in folders or Path(file).is_relative_to(_STANDARD)


_STANDARD = Path(traceback.__file__).parent
"""The folder of Python's standard library."""


def _portable(cause: BaseException | None) -> BaseException | None:
    """The exception if another process can have it, otherwise one that says the same."""
    try:
        return pickle.loads(pickle.dumps(cause))
    except Exception:  # Pickling runs the exception's own code.
        return RuntimeError(repr(cause))


def _with_cause(message: str, cause: BaseException | None) -> DatasetError:
    error = DatasetError(message)
    error.__cause__ = cause
    return error
