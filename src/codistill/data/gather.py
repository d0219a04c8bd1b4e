"""Turns pictures with labels into the parts of a data set: in memory if they fit, otherwise left in their files.

torchvision's loader is not used: it ignores the EXIF orientation, clips 16 bits at 255 and always returns RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codistill.data.decode import all_grey, decode_images
from codistill.data.lazy import LazyImages
from codistill.data.pictures import PictureReader, Pictures
from codistill.data.source import Parts, Request
from codistill.data.split import fixed_test_split
from codistill.data.types import Images, ImageSet

__all__ = ["DEFAULT_SIZE", "LARGE", "SAMPLE", "Labelled", "gather", "spread_sample", "stays_out"]

DEFAULT_SIZE = 64
"""Side of the images in pixels if neither the user nor the data gives one."""
LARGE = 128
"""Images with this side or more are decoded again in every step: their random crops need the whole picture."""
SAMPLE = 1024
"""How many images are read for colour, mean and deviation if there are too many to read all of them."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with their labels, int64 [N]."""

    pictures: Pictures
    labels_N: Tensor


def gather(
    train: Labelled,
    test: Labelled | None,
    classes: tuple[str, ...],
    found_at: str,
    request: Request,
    *,
    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE),
    channels: int | None = None,
    lazy: bool = False,
) -> Parts:
    """Return both parts, in memory if the images are below `LARGE` pixels and take at most `request.memory` bytes.

    Args:
        train: training pictures.
        test: test pictures; None: set aside a fixed 20 % of the training pictures.
        classes: names by label.
        found_at: where the data is.
        request: the user's image size and memory.
        size: height and width in pixels if the user gives no size.
        channels: 1 or 3; None: 1 if all pictures are grey, else 3. Of training pictures that stay in files only a
            sample is read for this.
        lazy: leave the pictures in their files even if they would fit into memory.

    Raises:
        UserError: a picture cannot be decoded, or there are too few pictures for a test part.
    """
    if request.image_size is not None:
        size = (request.image_size, request.image_size)
    if test is None:
        train_N, test_N = fixed_test_split(train.labels_N)
        chosen = [(train, train_N), (train, test_N)]
    else:
        chosen = [(part, torch.arange(len(part.labels_N))) for part in (train, test)]
    pixels = sum(len(index_N) for _, index_N in chosen) * size[0] * size[1]
    # A damaged header in the test part would otherwise be found only after training.
    if channels is None or train.pictures.light:
        unread = lazy or stays_out(pixels, size, request.memory)
        looked = [spread_sample(chosen[0][1]) if unread else chosen[0][1], chosen[1][1]]
        grey = [all_grey(part.pictures, index_N.tolist()) for (part, _), index_N in zip(chosen, looked, strict=True)]
        channels = channels or (1 if all(grey) else 3)
    stays = lazy or stays_out(pixels * channels, size, request.memory)
    made: list[Images] = []
    for part, index_N in chosen:
        labels_N = part.labels_N[index_N]
        if stays:
            read = PictureReader(part.pictures, channels)
            made.append(LazyImages(read, index_N, labels_N, channels, max(size)))
        else:
            made.append(ImageSet(decode_images(part.pictures, index_N.tolist(), channels, size), labels_N))
    return Parts(made[0], made[1], classes, found_at)


def stays_out(taken: int, size: tuple[int, int], memory: int) -> bool:
    """Whether images that would take this many bytes are decoded again in every step instead of kept in memory."""
    return max(size) >= LARGE or taken > memory


def spread_sample(index_N: Tensor) -> Tensor:
    """At most `SAMPLE` of the indices, evenly spread over them."""
    if len(index_N) <= SAMPLE:
        return index_N
    return index_N[torch.arange(SAMPLE) * len(index_N) // SAMPLE]
