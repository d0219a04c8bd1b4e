"""Studies: the papers' experiments as many runs that are trained and reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.studies.one_run import EndedRun
    from codistill.studies.runner import run_all

__all__ = ["EndedRun", "run_all"]

import_on_use(
    __name__,
    {
        "one_run": "EndedRun",
        "runner": "run_all",
    },
)
