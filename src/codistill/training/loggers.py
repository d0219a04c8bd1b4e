"""metrics.jsonl: one line an epoch, written as the run goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from codistill.training.session import Session

__all__ = ["JsonLines", "Silent"]


class Silent:
    """An observer that does nothing; a base for those that care about some events only."""

    def on_start(self, session: Session) -> None:
        """Nothing."""

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Nothing."""

    def on_epoch(self, session: Session, record: dict[str, Any]) -> None:
        """Nothing."""

    def on_end(self, session: Session, summary: dict[str, Any]) -> None:
        """Nothing."""


class JsonLines(Silent):
    """Appends every epoch's record to the run's metrics.jsonl."""

    def on_epoch(self, session: Session, record: dict[str, Any]) -> None:
        """Append one line, and make sure that it is on disk."""
        with (session.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def cut(path: Path, epochs: int) -> None:
        """Keep the first `epochs` lines: a resumed run writes the later ones again."""
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(lines[:epochs]), encoding="utf-8")
