"""Studies: the papers' experiments as many runs that are trained and reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.studies.runner import EndedRun, run_all

__all__ = ["EndedRun", "run_all"]

import_on_use(
    __name__,
    {
        "runner": "EndedRun run_all",
    },
)
