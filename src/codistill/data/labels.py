"""Labels and class names from the user's data, checked before they are used."""

from __future__ import annotations

import numbers
import textwrap
from collections.abc import KeysView, Sequence
from enum import Enum, EnumMeta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["class_indices", "class_names", "refuse_other_names"]

_MOST_CLASSES = 10_000
"""Labels below this are accepted with any number of images; larger ones must be below the number of images."""


def class_indices(labels: Sequence[Any] | Tensor | np.ndarray, where: str) -> Tensor:
    """Return the labels as int64 [N].

    Args:
        labels: whole numbers (Python's, numpy's, or tensors without dimensions), or an array or tensor of them.
        where: what an error message calls the images ("the training part").

    Raises:
        UserError: a label is not a whole number, is below 0, or is far too large for this number of images.
    """
    most = max(len(labels), _MOST_CLASSES)
    found = []
    for index, label in enumerate(labels.tolist() if isinstance(labels, (Tensor, np.ndarray)) else labels):
        whole = isinstance(label, numbers.Integral) or (
            isinstance(label, Tensor) and label.ndim == 0 and not label.is_floating_point()
        )
        if not whole or not 0 <= int(label) < most:
            raise UserError(
                f"the label of image {index} of {where} is {_short(label)}: labels must be class indices from 0 to "
                f"{most - 1} (with {len(labels)} images); correct it."
            )
        found.append(int(label))
    return torch.tensor(found, dtype=torch.int64)


def class_names(names: Any, where: str) -> tuple[str, ...]:
    """Return the class names in the order of the labels; several names for one class (ImageNet's) are joined.

    Args:
        names: strings, tuples of strings, whole numbers or members of an Enum, in a defined order (not a set).
        where: what an error message calls the data.

    Raises:
        UserError: `names` is anything else, or empty.
    """
    ordered = isinstance(names, (list, tuple, range, np.ndarray, KeysView, EnumMeta))
    found = [_name(name) for name in names] if ordered else []
    if not found or None in found:
        raise UserError(f"the class names of {where} are {_short(names)}: give a list of strings, one per class.")
    return tuple(str(name) for name in found)


def refuse_other_names(train: Sequence[str], other: Sequence[str], where: str) -> None:
    """Raise UserError if a label has different names in the training part and in `where`."""
    for label, (ours, theirs) in enumerate(zip(train, other, strict=False)):
        if ours != theirs:
            raise UserError(
                f"label {label} is {ours!r} in the training part and {theirs!r} in {where}: give both the same classes "
                "in the same order."
            )


def _name(name: Any) -> str | None:
    """The name of one class, or None if this cannot be a name."""
    if isinstance(name, Enum):
        return name.name
    if isinstance(name, (list, tuple)):
        return ", ".join(name) if name and all(isinstance(part, str) for part in name) else None
    return str(name) if isinstance(name, (str, numbers.Integral)) else None


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 80, placeholder=" ...")
