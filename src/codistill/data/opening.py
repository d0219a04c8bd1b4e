"""Pictures are opened here and nowhere else: known formats, regular files, and no more pixels than fit into memory.

`Image.open` asks every plugin of Pillow about a file, whatever its name: one of them hands PostScript to Ghostscript.
It also warns of large pictures where codistill refuses them in its own words, so the plugins are asked here.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from codistill.data.suffixes import formats, register_plugin

__all__ = ["MOST_BYTES", "MOST_PIXELS", "MOST_RATIO", "kind_of_file", "open_picture"]

MOST_PIXELS = 100_000_000
"""Of one picture; a camera of today has up to 100 million."""
MOST_BYTES = 400_000_000
"""Of one decoded picture."""
MOST_RATIO = 100
"""Of the longer to the shorter side: a resize that keeps it would make the longer side huge."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I": 8, "F": 8, "I;16": 8, "I;16B": 8, "I;16L": 8, "I;16N": 8}
"""Mode -> bytes of a pixel while it becomes 8 bits; 4 for all others, as Pillow keeps them."""
_START = 16
"""Bytes from which a plugin recognises its format."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_picture(source: Any) -> ImageFile:
    """Open a picture; it is decoded when its pixels are first used.

    Args:
        source: a path, or a binary file object, which stays the caller's to close.

    Raises:
        OSError: the file is missing, no regular file, or in no format that is read.
        ValueError: the picture has too many pixels, too many bytes or too long a side.
        Exception: whatever else Pillow raises for a damaged picture (see `codistill.data.damage`).
    """
    register_plugin()
    image = _opened_path(Path(source)) if isinstance(source, str | os.PathLike) else _opened_stream(source)
    try:
        _refuse_too_large(image)
    except ValueError:
        image.close()
        raise
    return image


def kind_of_file(path: Path) -> str | None:
    """Return what is at the path if that is no regular file ("a named pipe"), or None; OSError if nothing is there."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")


def _opened_path(path: Path) -> ImageFile:
    # To open a pipe would wait for someone to write into it.
    kind = kind_of_file(path)
    if kind is not None:
        raise OSError(f"it is {kind}, not a file")
    with path.open("rb") as file:
        start = file.read(_START)
    return _identified(start, lambda factory: factory(str(path)))


def _opened_stream(file: Any) -> ImageFile:
    try:
        file.seek(0)
    except (AttributeError, io.UnsupportedOperation):
        file = io.BytesIO(file.read())
    start = file.read(_START)

    def opened(factory: Any) -> ImageFile:
        file.seek(0)
        return factory(file, "")

    return _identified(start, opened)


def _identified(start: bytes, opened: Any) -> ImageFile:
    """What the first plugin makes of a file that begins with these bytes, of those that are asked."""
    for name in formats():
        if name not in Image.OPEN:
            Image.init()
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory is None or (accepts is not None and accepts(start) is not True):
            continue
        try:
            return opened(factory)
        except (SyntaxError, IndexError, TypeError, struct.error):  # "Not mine", as in Image.open.
            continue
    raise UnidentifiedImageError("cannot identify image file")


def _refuse_too_large(image: ImageFile) -> None:
    width, height = image.size
    pixels, size = width * height, f"it has {width:,} × {height:,} pixels"
    taken = pixels * _BYTES.get(image.mode, 4)
    if pixels > MOST_PIXELS:
        raise ValueError(f"{size}, and at most {MOST_PIXELS // 10**6} million are read: scale it down")
    if taken > MOST_BYTES:
        raise ValueError(
            f"{size} of mode {image.mode}, which take {taken // 10**6} MB, and at most {MOST_BYTES // 10**6} MB are "
            "read: scale it down"
        )
    if max(width, height) > MOST_RATIO * min(width, height):
        raise ValueError(f"{size}, and one side may be at most {MOST_RATIO} times as long as the other: crop it")
