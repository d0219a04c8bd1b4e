"""Whole image sets at once: memory they take, resizing, mean and deviation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.types import ImageSet
from codistill.errors import UserError

__all__ = ["MEMORY_LIMIT", "MIN_SIDE", "channel_statistics", "check_memory", "resize"]

MEMORY_LIMIT = 8 * 2**30
"""Bytes that a data set's images may take if the user gives no number."""
MIN_SIDE = 8
"""Smallest side of an image in pixels."""

_CHUNK = 1024


def check_memory(images: int, channels: int, size: int, limit: int = MEMORY_LIMIT) -> None:
    """Refuse square images with a side of `size` pixels that would not fit into memory.

    Raises:
        UserError: they take more than `limit` bytes.
    """
    taken = images * channels * size**2
    if taken <= limit:
        return
    fits = math.isqrt(limit // (images * channels))
    remedy = f"give --image-size {fits} or less" if fits >= MIN_SIDE else "use fewer images"
    raise UserError(
        f"{images} images of {size} × {size} pixels and {channels} channels take {taken / 2**30:.1f} GiB: at most "
        f"{limit / 2**30:g} GiB are kept in memory (--data-memory); {remedy}."
    )


def resize(images: ImageSet, size: int) -> ImageSet:
    """Return the images at `size` × `size` pixels, bilinear with antialias; unchanged if they have that size."""
    source = images.images_NCHW
    if source.shape[2:] == (size, size):
        return images
    target = torch.empty(*source.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(source), _CHUNK):
        part = source[start : start + _CHUNK]
        target[start : start + _CHUNK] = functional.interpolate(
            part, size=(size, size), mode="bilinear", antialias=True
        )
    return ImageSet(target, images.labels_N, images.groups_N)


def channel_statistics(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images, scaled to 0..1; exact, from a histogram."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images_NCHW.shape[1]):
        count = torch.zeros(256, dtype=torch.float64)
        for part in images_NCHW[:, channel].split(_CHUNK):
            count += part.flatten().bincount(minlength=256)
        share = count / count.sum()
        mean = (share * value).sum()
        deviation = (share * (value - mean) ** 2).sum().sqrt()
        means.append(mean.item())
        # Images of one constant grey would cause a division by zero; one step of 8 bits is the smallest variation.
        deviations.append(max(deviation.item(), 1 / 255))
    return tuple(means), tuple(deviations)
