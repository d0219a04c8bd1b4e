"""Write a student to files that do not need the group that trained it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.export.package import FORMATS, export_student

__all__ = ["FORMATS", "export_student"]

import_on_use(
    __name__,
    {
        "package": "FORMATS export_student",
    },
)
