"""Weights & Biases: curves, pictures and tables in one of its runs."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from codistill.config import config_to_dict
from codistill.errors import UserError
from codistill.rundir import Epoch, Summary
from codistill.training.loggers.curves import CurveLogger, curves, test_scores
from codistill.training.loggers.heat_map import heat_map
from codistill.training.session import Session

__all__ = ["WandB"]

PROJECT = "codistill"


class WandB(CurveLogger):
    """Writes to a run of Weights & Biases, whose own files go to extra/wandb in the run directory.

    A run that goes on continues the same run there. The variables of W&B count: WANDB_PROJECT, WANDB_MODE=offline, ...

    Args:
        options: for `wandb.init`, such as project="birds".

    Raises:
        UserError: wandb is not installed.
    """

    name: ClassVar[str] = "wandb"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("wandb is not installed: pip install 'codistill[wandb]'.") from error
        self._wandb, self._options = wandb, options
        self._run: Any = None

    def open(self, session: Session, epochs: int) -> None:
        """See `CurveLogger`."""
        options = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": session.out.name,
            "id": self.record.get("id"),
            "resume": "allow",
            "dir": str(session.extra),
            "config": config_to_dict(session.config),
            "settings": self._wandb.Settings(silent=True, console="off"),
        }
        self._run = self._wandb.init(**{**options, **self._options})
        self.record["id"] = self._run.id

    def write(self, session: Session, record: Epoch) -> None:
        """See `CurveLogger`."""
        point: dict[str, Any] = curves(session, record)
        if record.attention is not None:
            names = [str(peer) for peer in range(len(record.attention))]
            point["attention"] = self._wandb.Image(heat_map(record.attention, names, "peer", "listens to"))
        self._run.log(point, step=record.epoch)

    def finish(self, session: Session, summary: Summary) -> None:
        """See `CurveLogger`."""
        self._run.summary.update(test_scores(summary))
        confusion, names = summary.last.test.confusion, list(summary.classes)
        if confusion is not None:
            picture = heat_map(confusion, names, "true class", "class of the leader")
            rows = [[name, *row] for name, row in zip(names, confusion, strict=True)]
            table = self._wandb.Table(columns=["true class", *names], data=rows)
            self._run.log({"confusion": self._wandb.Image(picture), "confusion_table": table}, step=summary.last.epoch)

    def close(self, failed: bool) -> None:
        """See `CurveLogger`."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))
            self._run = None
