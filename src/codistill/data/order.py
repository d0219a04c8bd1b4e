"""The order in which an epoch sees its images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["batch_count", "batches"]


def batches(n: int, batch_size: int, generator: torch.Generator, last_batch: str = "drop") -> Iterator[Tensor]:
    """Cut a random permutation of 0 to n - 1 into batches.

    Args:
        n: number of images.
        batch_size: images in a batch.
        generator: CPU generator that draws the permutation, once, when this function is called.
        last_batch: "drop" leaves out the images that do not fill a batch. "keep" puts them in a smaller batch; if it is
            a single image, the image joins the previous batch, since batch norm needs two.

    Returns:
        `batch_count` tensors of int64 indices [batch_size]; with "keep" the last one may have another length.

    Raises:
        UserError: the batch size is below 1, or larger than the number of images.
    """
    if not 1 <= batch_size <= n:
        raise UserError(f"batch_size {batch_size} with {n} images: give at least 1 and at most {n}.")
    count, order_N = batch_count(n, batch_size, last_batch), torch.randperm(n, generator=generator)
    if last_batch == "drop":
        order_N = order_N[: count * batch_size]
    whole = order_N[: (count - 1) * batch_size].split(batch_size) if count > 1 else ()
    return iter((*whole, order_N[(count - 1) * batch_size :]))


def batch_count(n: int, batch_size: int, last_batch: str = "drop") -> int:
    """How many batches `batches` makes from n images."""
    return n // batch_size + (1 if last_batch == "keep" and n % batch_size > 1 else 0)
