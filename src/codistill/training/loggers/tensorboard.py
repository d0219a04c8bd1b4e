"""TensorBoard: curves, pictures and tables as event files."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from codistill.errors import UserError
from codistill.rundir import Epoch, Summary
from codistill.training.loggers.curves import CurveLogger, curves, hyperparameters, test_scores
from codistill.training.loggers.heat_map import heat_map
from codistill.training.session import Session

__all__ = ["TensorBoard"]


class TensorBoard(CurveLogger):
    """Writes to extra/tensorboard in the run directory: `tensorboard --logdir RUN`.

    Args:
        folder: another folder, of this run alone.

    Raises:
        UserError: TensorBoard is not installed.
    """

    name: ClassVar[str] = "tensorboard"

    def __init__(self, folder: Path | str | None = None) -> None:
        super().__init__()
        try:
            import tensorboard.summary.writer.record_writer  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("tensorboard is not installed: pip install 'codistill[tensorboard]'.") from error
        self._folder = None if folder is None else Path(folder)
        self._events: _Events | None = None

    @property
    def _file(self) -> _Events:
        assert self._events is not None
        return self._events

    def open(self, session: Session, epochs: int) -> None:
        """See `CurveLogger`."""
        self._events = _Events(self._folder or session.extra / "tensorboard")
        self._file.begin(epochs + 1)
        settings = hyperparameters(session)
        self._file.text("settings", _table(("setting", "value"), list(settings.items())), session.epoch)
        self._file.flush()

    def write(self, session: Session, record: Epoch) -> None:
        """See `CurveLogger`."""
        for name, value in curves(session, record).items():
            self._file.scalar(name, value, record.epoch)
        if record.attention is not None:
            names = [str(peer) for peer in range(len(record.attention))]
            self._file.image("attention", heat_map(record.attention, names, "peer", "listens to"), record.epoch)
        self._file.flush()

    def finish(self, session: Session, summary: Summary) -> None:
        """See `CurveLogger`."""
        scores, epoch, confusion = test_scores(summary), summary.last.epoch, summary.last.test.confusion
        for name, value in scores.items():
            self._file.scalar(name, value, epoch)
        self._file.text("test", _table(("score", "value"), [(n, f"{v:.4f}") for n, v in scores.items()]), epoch)
        if confusion is not None:
            names = list(summary.classes)
            self._file.image("confusion", heat_map(confusion, names, "true class", "class of the leader"), epoch)
            rows = [(name, *row) for name, row in zip(names, confusion, strict=True)]
            self._file.text("confusion", _table(("true \\ predicted", *names), rows), epoch)
        self._file.hyperparameters(hyperparameters(session), scores)

    def close(self, failed: bool) -> None:
        """See `CurveLogger`."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def drop(self) -> None:
        """See `CurveLogger`."""
        self.close(failed=True)


class _Events:
    """One event file. torch's SummaryWriter writes in a thread, whose error (a full disk) would be a traceback."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import (  # pyright: ignore[reportMissingImports]
            Event,
            SessionLog,
        )
        from tensorboard.summary.writer.record_writer import RecordWriter  # pyright: ignore[reportMissingImports]
        from torch.utils.tensorboard import summary

        self._event, self._summary, self._log = Event, summary, SessionLog
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._out = RecordWriter((folder / f"events.out.tfevents.{stamp}").open("xb"))

    def begin(self, first: int) -> None:
        """Begin the file; TensorBoard drops what earlier files have of the steps from `first` on."""
        self._add(file_version="brain.Event:2")
        self._add(session_log=self._log(status=self._log.START), step=first)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        self._add(summary=self._summary.scalar(name, value), step=step)

    def image(self, name: str, pixels_HWC: np.ndarray, step: int) -> None:
        """Add a picture."""
        self._add(summary=self._summary.image(name, pixels_HWC, dataformats="HWC"), step=step)

    def text(self, name: str, markdown: str, step: int) -> None:
        """Add a text or table."""
        self._add(summary=self._summary.text(name, markdown), step=step)

    def hyperparameters(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Add the row of the table in which runs are compared."""
        for part in self._summary.hparams(dict(settings), dict(scores)):
            self._add(summary=part)

    def flush(self) -> None:
        """Write out what is buffered."""
        self._out.flush()

    def close(self) -> None:
        """Write out what is buffered, and close the file."""
        self._out.close()

    def _add(self, **content: Any) -> None:
        self._out.write(self._event(wall_time=time.time(), **content).SerializeToString())


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
