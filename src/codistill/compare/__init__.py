"""`codistill compare`: did it help on my images? A network alone against methods, over seeds, answered in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.compare.command import run_comparison
    from codistill.compare.request import CompareRequest

__all__ = ["CompareRequest", "run_comparison"]

import_on_use(
    __name__,
    {
        "command": "run_comparison",
        "request": "CompareRequest",
    },
)
