"""Pictures read ahead by several threads, in batches, in the order given."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codistill.data.damage import DAMAGED, reason_of
from codistill.data.opening import open_picture
from codistill.prepare import prepare
from codistill.printable import printable

__all__ = ["ReadPicture", "Reader", "prepared", "read_batches"]

AHEAD = 2
"""Batches that are read while the network is at work on one."""
THREADS = 16

Reader = Callable[[Any], np.ndarray]
"""Turns a picture (a path, a file object or a PIL image) into what a network reads; Pillow's errors pass through."""


@dataclass(frozen=True, eq=False)
class ReadPicture:
    """A picture's name with its pixels, or with the reason why there are none."""

    name: str
    pixels: np.ndarray | None
    error: str | None = None


def prepared(picture: Any, how: Mapping[str, Any]) -> np.ndarray:
    """Return `prepare(picture, how)`; a picture that is not yet opened is opened by `open_picture`."""
    if isinstance(picture, Image.Image):
        return prepare(picture, how)
    with open_picture(picture) as opened:
        return prepare(opened, how)


def read_batches(
    read: Reader, pictures: Sequence[Any], batch_size: int, threads: int | None = None
) -> Iterator[list[ReadPicture]]:
    """Yield all pictures in batches; of few pictures at a time, the pixels are in memory.

    Args:
        read: reads one picture.
        pictures: what it reads.
        batch_size: pictures in a batch; the last one may have fewer.
        threads: how many pictures are read at once; as many as there are processors, up to 16, if None.
    """
    with ThreadPoolExecutor(threads or min(THREADS, os.cpu_count() or 1)) as pool:
        waiting: deque[list[Future[ReadPicture]]] = deque()
        try:
            for start in range(0, len(pictures), batch_size):
                places = range(start, min(start + batch_size, len(pictures)))
                waiting.append([pool.submit(_tried, read, pictures[place], place) for place in places])
                if len(waiting) > AHEAD:
                    yield [one.result() for one in waiting.popleft()]
            while waiting:
                yield [one.result() for one in waiting.popleft()]
        finally:
            # After an interruption, nothing more needs to be read.
            pool.shutdown(cancel_futures=True)


def _tried(read: Reader, picture: Any, place: int) -> ReadPicture:
    path = printable(str(picture), lines=False) if isinstance(picture, str | Path) else None
    name = path or f"picture {place}"
    try:
        return ReadPicture(name, read(picture))
    except DAMAGED as error:
        return ReadPicture(name, None, reason_of(error, str(picture)))
