"""Write a student to files that do not need the group that trained it (docs/export.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.export.package import Exported, export, export_student
    from codistill.export.request import FORMATS, ExportRequest

__all__ = ["FORMATS", "ExportRequest", "Exported", "export", "export_student"]

import_on_use(
    __name__,
    {
        "package": "Exported export export_student",
        "request": "FORMATS ExportRequest",
    },
)
