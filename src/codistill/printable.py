"""Text of others made fit to print: file names, class names and labels can hold what steers a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text", "printable"]

_STEERING = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # Control characters, of which ESC begins a terminal's commands.
    "\u061c\u202a-\u202e\u2066-\u2069"  # They change the direction of what follows, so that it reads otherwise.
    "\u2028\u2029\ufeff"
    "\ud800-\udfff"  # Halves of characters: what Python makes of file names that are not UTF-8.
)
_ANY = re.compile(f"[{_STEERING}]")
_ANY_OR_LINE = re.compile(f"[{_STEERING}\t\n]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: str, *, lines: bool = True) -> str:
    r"""Return the text with each control character as what stands for it in Python: `\x1b`, `\u202e`.

    Bytes of a file name that are not UTF-8 are shown as bytes (`\xff`).

    Args:
        text: any text.
        lines: whether tabs and ends of lines stay; otherwise they become `\t` and `\n`, as in a name.
    """
    return (_ANY if lines else _ANY_OR_LINE).sub(_shown, text)


def json_text(record: Mapping[str, Any]) -> str:
    """Return the record as indented JSON that holds the same text, with control characters escaped as JSON does."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return _ANY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
