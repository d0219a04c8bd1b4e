"""Pictures with labels to the parts of a data set: into memory where small and few enough, else left where they are."""

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
"""Side of the images in pixels where neither the user nor the data gives one."""
LARGE = 128
"""Images of this side or more are decoded anew in every step: their random crops need the whole picture."""
SAMPLE = 1024
"""How many images tell colour, mean and deviation where there are too many to read them all."""


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
        test: test pictures; None: a fixed 20 % of the training ones.
        classes: names by label.
        found_at: where all this is.
        request: the user's image size and memory.
        size: height and width in pixels where the user gives no size.
        channels: 1 or 3; None: 1 where all pictures are grey, else 3 (of training pictures that stay in files a sample
            tells).
        lazy: never into memory.

    Raises:
        UserError: a picture cannot be decoded, or there are too few for a test part.
    """
    if request.image_size is not None:
        size = (request.image_size, request.image_size)
    if test is None:
        train_N, test_N = fixed_test_split(train.labels_N)
        chosen = [(train, train_N), (train, test_N)]
    else:
        chosen = [(part, torch.arange(len(part.labels_N))) for part in (train, test)]
    pixels = sum(len(index_N) for _, index_N in chosen) * size[0] * size[1]
    # Damage that only a header shows would otherwise come to light in the test part when training is over.
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
    """Whether images that would take so many bytes are decoded anew in every step, and not kept in memory."""
    return max(size) >= LARGE or taken > memory


def spread_sample(index_N: Tensor) -> Tensor:
    """At most `SAMPLE` of the indices, evenly spread over them."""
    if len(index_N) <= SAMPLE:
        return index_N
    return index_N[torch.arange(SAMPLE) * len(index_N) // SAMPLE]
