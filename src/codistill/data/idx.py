"""The IDX format of MNIST and its relatives: big-endian sizes, then bytes; plain or compressed with gzip.

Written here because torchvision's reader takes no .gz, and reports a truncated or wrong file by a failed assertion or a
shape that does not fit, without the file's name.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 8
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
    content, cut_off = _content(path)
    header = 4 + 4 * axes
    magic = bytes([0, 0, _UNSIGNED_BYTE, axes])
    if len(content) >= 4 and content[:4] != magic:
        raise UserError(
            f"{path} starts with the bytes {content[:4].hex()}, but an IDX file with {axes} axes starts with "
            f"{magic.hex()}: this is a different file; replace it with the right one."
        )
    shape = struct.unpack(f">{axes}I", content[4:header]) if len(content) >= header else ()
    expected = header + math.prod(shape) if shape else header
    if cut_off or len(content) != expected:
        fault = "damaged" if len(content) > expected else "truncated"
        unpacked = " (unpacked)" if path.suffix == ".gz" else ""
        raise UserError(
            f"{path} is {fault}: {expected} bytes expected by its header and {len(content)} found{unpacked}; get the "
            "file again."
        )
    # A bytearray, because torch warns about read-only memory.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].view(shape)


def _content(path: Path) -> tuple[bytes, bool]:
    """The unpacked bytes, and whether the gzip stream ends early."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it readable or give another folder."
        ) from error
    if path.suffix != ".gz":
        return raw, False
    stream = zlib.decompressobj(wbits=_GZIP)
    try:
        return stream.decompress(raw), not stream.eof
    except zlib.error as error:
        raise UserError(f"{path} is not a sound gzip file ({error}): get the file again.") from error
