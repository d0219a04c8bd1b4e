"""Glyphs-100: a data set of CIFAR-100's size that ships with the package (see assets/GLYPHS100.md)."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch

from codistill.data.source import Parts, Request
from codistill.data.types import ImageSet

__all__ = ["find", "load"]

_FOUND_AT = "shipped with codistill"


def find() -> str:
    """Say that the images are inside the package."""
    return _FOUND_AT


def load(request: Request) -> Parts:
    """Return the shipped images, 32 × 32 and grey; their groups are the font faces."""
    file = resources.files("codistill.data") / "assets" / "glyphs100.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        train, test = (
            ImageSet(
                torch.from_numpy(arrays[f"{part}_images"]).unsqueeze(1),
                torch.from_numpy(arrays[f"{part}_labels"].astype(np.int64)),
                torch.from_numpy(arrays[f"{part}_fonts"].astype(np.int64)),
            )
            for part in ("train", "test")
        )
        classes = tuple(str(name) for name in arrays["classes"])
    return Parts(train, test, classes, _FOUND_AT)
