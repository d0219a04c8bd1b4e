"""Write a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(out: Path, text: str) -> None:
    """Write `text` so that at every moment `out` has either its earlier content or all of the new one."""
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        beside.replace(out)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
