"""Records as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from codistill.printable import printable

__all__ = ["csv_text"]


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return at least one record as CSV, one line per record, under the names of the first one."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in record.items()} for record in records)
    return text.getvalue()


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
