"""One line of metrics.jsonl: what an epoch gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codistill.rundir.evaluation import Evaluation
from codistill.rundir.names import FORMAT
from codistill.rundir.record import Record, RecordError, frozen

__all__ = ["Epoch", "TrainingMeans"]


@dataclass(frozen=True, kw_only=True)
class TrainingMeans(Record):
    """Means over the training images of an epoch.

    Attributes:
        loss: what was minimised, in nats.
        loss_by_peer: one per student.
        parts: the unweighted terms of the method's loss, by name.
        error_by_peer: training error in percent, one per student.
    """

    loss: float
    loss_by_peer: tuple[float, ...]
    parts: Mapping[str, float]
    error_by_peer: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.loss_by_peer:
            raise RecordError("is empty", "loss_by_peer")


@dataclass(frozen=True, kw_only=True)
class Epoch(Record):
    """One line of metrics.jsonl.

    Attributes:
        version: of the format.
        epoch: finished epochs, from 1.
        lr: learning rate of the last step.
        seconds: of training and validation.
        images_per_second: of training.
        train: means over the training images.
        validation: scores on the validation images.
        diagnostics: small arrays that the method offers for plots, as nested tuples (or lists) of numbers.
        concerns: what looks wrong and was first seen in this epoch, a sentence each.
    """

    version: int = FORMAT
    epoch: int
    lr: float
    seconds: float
    images_per_second: float
    train: TrainingMeans
    validation: Evaluation
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # What `Tensor.tolist` gives compares equal to what is read back.
        object.__setattr__(self, "diagnostics", frozen(self.diagnostics))

    @property
    def loss_per_student(self) -> float:
        """Training loss of the average student, which compares between groups of different sizes."""
        return sum(self.train.loss_by_peer) / len(self.train.loss_by_peer)

    @property
    def attention(self) -> tuple[tuple[float, ...], ...] | None:
        """The square matrix of attention between peers, shares of 1; None if there is none that can be drawn."""
        rows = self.diagnostics.get("attention")
        if not isinstance(rows, tuple) or not rows:
            return None
        return rows if all(_shares(row) and len(row) == len(rows) for row in rows) else None

    @property
    def shares(self) -> tuple[float, ...] | None:
        """How much each student counts in the target of all: KDCL-General's weights, or ONE's gate."""
        given = self.diagnostics.get("weights") or self.diagnostics.get("gate")
        return given if given and _shares(given, beyond=1e6) else None


def _shares(value: Any, beyond: float = 0.001) -> bool:
    # A little beyond 0 and 1 is rounding; "not a number" is what training that diverged leaves.
    low, high = -beyond, 1 + beyond
    return isinstance(value, tuple) and all(isinstance(one, int | float) and low <= one <= high for one in value)
