"""The order in which an epoch sees its images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["batches"]


def batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Cut a random permutation of 0 to n - 1 into full batches; the last, incomplete one is dropped.

    Args:
        n: number of images.
        batch_size: images in a batch.
        generator: CPU generator that draws the permutation, once, when this function is called.

    Returns:
        int64 [batch_size] indices, n // batch_size times.

    Raises:
        UserError: a batch has no image, or more images than there are.
    """
    if not 1 <= batch_size <= n:
        raise UserError(f"batch_size {batch_size} with {n} images: give at least 1 and at most {n}.")
    full = n - n % batch_size
    return iter(torch.randperm(n, generator=generator)[:full].split(batch_size))
