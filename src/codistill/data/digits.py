"""scikit-learn's digits: real scans that are inside the install."""

from __future__ import annotations

import torch

from codistill.data.source import Parts, Request
from codistill.data.split import fixed_test_split
from codistill.data.types import ImageSet

__all__ = ["find", "load"]

_FOUND_AT = "scikit-learn"


def find() -> str:
    """Name the package that ships the images."""
    return _FOUND_AT


def load(request: Request) -> Parts:
    """Return 1797 grey images of 8 × 8, their 17 levels spread over 0 to 255; a fixed 20 % is the test set."""
    # Imported here because it takes a second, and other data sets do not need it.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    levels = torch.as_tensor(pixels).view(-1, 1, 8, 8)
    images = ImageSet((levels * (255 / 16)).round().to(torch.uint8), torch.as_tensor(labels).long())
    train, test = fixed_test_split(images.labels_N)
    return Parts(images.take(train), images.take(test), tuple("0123456789"), _FOUND_AT)
