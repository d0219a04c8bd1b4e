"""What all loggers share: which curves there are, where to go on after a resume, and that a fault stops only them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from codistill.config import config_to_dict
from codistill.errors import one_line
from codistill.rundir import Epoch, Evaluation, Score, Summary, read_epochs, write_json
from codistill.training.session import Session

__all__ = ["CurveLogger", "curves", "hyperparameters", "test_scores"]


class CurveLogger:
    """Base of the loggers: an observer whose subclass says how to open, write and close.

    A file in the run's extra folder holds how many epochs were written. A run that goes on, even one that had no logger
    before, writes those that are missing first, so that curves have every epoch once. A fault of the logger (a full
    disk, a network that is down) is one warning, and then it is silent until the run ends.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._broken = False
        self.record: dict[str, Any] = {}

    def open(self, session: Session, epochs: int) -> None:
        """Begin; `epochs` were written before."""
        raise NotImplementedError

    def write(self, session: Session, record: Epoch) -> None:
        """Write an epoch."""
        raise NotImplementedError

    def finish(self, session: Session, summary: Summary) -> None:
        """Write the results."""
        raise NotImplementedError

    def close(self, failed: bool) -> None:
        """End, whether or not there are results."""
        raise NotImplementedError

    def drop(self) -> None:
        """Let go of what is open after a fault, without waiting for anyone."""

    def on_start(self, session: Session) -> None:
        """Begin, and write the epochs that are missing."""
        self._broken = False
        self._try(self._start, session)

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Write the epoch."""
        self._try(self._write, session, record)

    def on_end(self, session: Session, summary: Summary) -> None:
        """Write the results."""
        self._try(self.finish, session, summary)
        self._try(self.close, False)

    def on_failure(self, session: Session, error: BaseException) -> None:
        """End without results."""
        self._try(self.close, True)

    def _start(self, session: Session) -> None:
        path = session.extra / f"{self.name}.json"
        self.record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        written = min(self.record.get("epochs", 0), session.epoch)
        self.open(session, written)
        if written == session.epoch:
            return
        for epoch in read_epochs(session.out, complete=False):
            if written < epoch.epoch <= session.epoch:
                self._write(session, epoch)

    def _write(self, session: Session, record: Epoch) -> None:
        self.write(session, record)
        self.record = {"version": 1, **self.record, "epochs": record.epoch}
        write_json(session.extra / f"{self.name}.json", self.record)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._broken:
            return
        try:
            call(*arguments)
        except Exception as error:
            self._broken = True
            with suppress(Exception):
                self.drop()
            warnings.warn(
                f"the logger {self.name} failed ({type(error).__name__}: {one_line(error)}): it gets nothing more, and "
                "the run goes on without it",
                stacklevel=2,
            )


def curves(session: Session, record: Epoch) -> dict[str, float]:
    """Return one point of every curve; losses in nats, errors in percent."""
    points = {"learning_rate": record.lr, "images_per_second": record.images_per_second, "loss/all": record.train.loss}
    points |= {f"loss/student_{p}": loss for p, loss in enumerate(record.train.loss_by_peer)}
    points |= {f"loss_parts/{name}": value for name, value in record.train.parts.items()}
    points |= {f"train_error/student_{p}": error for p, error in enumerate(record.train.error_by_peer)}
    points |= _scores("validation", record.validation, session.config.headline)
    points |= {f"target_weight/student_{p}": share for p, share in enumerate(record.shares or ())}
    if record.validation.diversity is not None:
        points |= {f"diversity/{name}": value for name, value in record.validation.diversity.to_json().items()}
    return points


def test_scores(summary: Summary) -> dict[str, float]:
    """Return the scores on the test images with the weights of the last epoch, and of the selected one's leader."""
    points = _scores("test", summary.last.test, summary.figure)
    return points | {"test_error/selected_leader": summary.selected.test.leader.top1_error}


def hyperparameters(session: Session) -> dict[str, bool | int | float | str]:
    """Return all settings by their dotted names; what is no number, truth value or text is written as JSON."""
    found: dict[str, bool | int | float | str] = {}

    def walk(settings: Mapping[str, Any], prefix: str) -> None:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)

    walk(config_to_dict(session.config), "")
    return found


def _scores(part: str, evaluation: Evaluation, figure: str) -> dict[str, float]:
    scored: dict[str, Score | None] = {f"student_{p}": score for p, score in enumerate(evaluation.peers)}
    if len(evaluation.peers) > 1:
        names = ("leader", "mean", "ensemble", "ensemble_logits", "ensemble_own")
        scored |= {name: getattr(evaluation, name) for name in names}
    points: dict[str, float] = {}
    for name, score in scored.items():
        if score is not None:
            points |= {f"{part}_error/{name}": score.top1_error, f"{part}_nll/{name}": score.nll}
            value = score.value(figure)
            if figure != "error" and value is not None:
                points[f"{part}_{figure}/{name}"] = value
    return points
