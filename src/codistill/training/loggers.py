"""Observers of a run: one that does nothing, and one that writes metrics.jsonl while the run trains."""

from __future__ import annotations

from codistill.rundir import Epoch, Summary, append_epoch
from codistill.training.session import Session

__all__ = ["MetricsFile", "Silent"]


class Silent:
    """An observer that does nothing; a base class for those that need some of the events only."""

    def on_start(self, session: Session) -> None:
        """Nothing."""

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Nothing."""

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Nothing."""

    def on_end(self, session: Session, summary: Summary) -> None:
        """Nothing."""


class MetricsFile(Silent):
    """Appends the record of each epoch to the run's metrics.jsonl."""

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Append one line."""
        append_epoch(session.out, record)
