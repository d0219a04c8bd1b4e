"""What Pillow raises for a picture that cannot be decoded, and how to quote it."""

from __future__ import annotations

import re
import struct

from PIL import Image

from codistill.errors import one_line

__all__ = ["DAMAGED", "reason_of"]

# What Pillow's decoders raise if a file is not what its suffix says, ends early, or holds tags of the wrong type.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error)
DAMAGED += (OverflowError, Image.DecompressionBombError)


def reason_of(error: BaseException, name: str) -> str:
    """Return why the picture called `name` cannot be decoded, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Pillow adds the file's name, which stands in our message already, or an object's address.
    reason = re.sub(r" <_io\.[^>]*>", "", one_line(error)).replace(f" {name!r}", "")
    return reason or type(error).__name__
