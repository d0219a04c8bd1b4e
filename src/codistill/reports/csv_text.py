"""Text for a file, and writing it whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["csv_text", "write_whole"]


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return at least one record as CSV, a line each, under the names of the first one."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


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
