"""All kinds of bad input, by section of docs/bad-input.md."""

from __future__ import annotations

import of_calls
import of_files
import of_parser
import of_runs
import of_settings
import of_students
from case import Case

__all__ = ["PARSER", "SECTIONS"]

SECTIONS: dict[str, tuple[Case, ...]] = {
    **of_settings.SECTIONS,
    **of_files.SECTIONS,
    **of_runs.SECTIONS,
    **of_students.SECTIONS,
    **of_calls.SECTIONS,
}
"""Each is answered with one line that begins "codistill: error: "; from Python, with a `UserError` of that text."""

PARSER = of_parser.CASES
"""Each is answered with a box of several lines."""
