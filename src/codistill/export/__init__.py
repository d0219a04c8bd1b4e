"""A student as files that need nothing of the group that trained it."""

from codistill.export.package import FORMATS, export_student

__all__ = ["FORMATS", "export_student"]
