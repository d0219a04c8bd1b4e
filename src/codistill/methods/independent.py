"""Cross-entropy alone: one network (`baseline`) or several side by side (`ind`)."""

from __future__ import annotations

from codistill.methods.base import Method, Rows
from codistill.types import Progress, StepOutput

__all__ = ["Baseline", "Independent"]


class Independent(Method):
    """`ind`: L = Σ_i CE(z_i, y); the students teach each other nothing, on a shared trunk or apart."""

    min_peers = 1

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce"."""
        ce_P = rows.cross_entropy_P()
        return StepOutput(ce_P.sum(), ce_P, {"ce": ce_P.detach().sum()})


class Baseline(Independent):
    """`baseline`: one network, L = CE(z, y)."""

    max_peers = 1
