"""The IDX format of MNIST and its relatives: big-endian sizes, then bytes; plain or compressed with gzip.

Written here because torchvision's reader takes no .gz, and reports a truncated or wrong file by a failed assertion or a
shape that does not fit, without the file's name.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["MOST_BYTES", "read_idx"]

MOST_BYTES = 2**30
"""Of one file, unpacked. The largest of these data sets has 47 million."""

_UNSIGNED_BYTE = 8
_CHUNK = 2**20
_GZIP = 31
"""zlib's `wbits` for a stream with gzip's header and checksum."""


def read_idx(path: Path, axes: int) -> Tensor:
    """Read a file of unsigned bytes.

    Args:
        path: the file; it is unpacked if its suffix is .gz.
        axes: number of axes that it must have: 3 for images, 1 for labels.

    Returns:
        uint8, in the shape given by the file's header.

    Raises:
        UserError: the file cannot be read or unpacked, has a different magic number, or is longer or shorter than its
            header says.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                stream = zlib.decompressobj(wbits=_GZIP)
                return _parsed(path, partial(_unpacked, file, stream), axes, stream=stream)
            return _parsed(path, file.read, axes, there=path.stat().st_size)
    except zlib.error as error:
        raise UserError(f"{path} is not a sound gzip file ({error}): get the file again.") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it readable or give another folder."
        ) from error


def _parsed(
    path: Path, read: Callable[[int], bytes], axes: int, *, there: int | None = None, stream: Any = None
) -> Tensor:
    """The tensor in what `read` gives: `there` bytes, or what a gzip `stream` unpacks."""
    header = 4 + 4 * axes
    start = read(header)
    magic = bytes([0, 0, _UNSIGNED_BYTE, axes])
    if len(start) >= 4 and start[:4] != magic:
        raise UserError(
            f"{path} starts with the bytes {start[:4].hex()}, but an IDX file with {axes} axes starts with "
            f"{magic.hex()}: this is a different file; replace it with the right one."
        )
    whole = len(start) == header
    shape = struct.unpack(f">{axes}I", start[4:]) if whole else ()
    size = math.prod(shape) if whole else 0
    if size > MOST_BYTES:
        raise UserError(
            f"{path} promises {size:,} bytes in its header, and at most {MOST_BYTES:,} are read: replace it with the "
            "right file."
        )
    # One byte more than promised shows that a file is longer, to whatever size it would unpack.
    content = bytearray(read(size + 1))
    found = len(start) + len(content) if there is None else there
    cut_off = stream is not None and not stream.eof
    if not whole or found != header + size or cut_off:
        fault = "damaged" if found > header + size else "truncated"
        # A longer gzip stream is not unpacked to its end.
        count = "more" if fault == "damaged" and there is None else str(found)
        unpacked = " (unpacked)" if there is None else ""
        raise UserError(
            f"{path} is {fault}: {header + size} bytes expected by its header and {count} found{unpacked}; "
            "get the file again."
        )
    # A bytearray, because torch warns about read-only memory; it takes none that is empty.
    return torch.frombuffer(content, dtype=torch.uint8).view(shape) if size else torch.empty(shape, dtype=torch.uint8)


def _unpacked(file: BinaryIO, stream: Any, size: int) -> bytes:
    """The next bytes of a gzip stream, at most `size`; fewer only where it ends, and none if it ends early."""
    parts, wanted = [], size
    while wanted and not stream.eof:
        packed = stream.unconsumed_tail or file.read(_CHUNK)
        part = stream.decompress(packed, wanted)
        if not packed and not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)
