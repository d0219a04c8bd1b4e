"""One training step: executor, optimizer, averages and metrics; on CUDA recorded once and replayed where asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.execution.replay import CudaGraph, NotRecordedError, Recording, Replayed
from codistill.training.batches import Batch
from codistill.training.class_balance import sample_weights
from codistill.training.clipping import Clipping
from codistill.training.optimizer import rate_on_device, set_rate
from codistill.training.session import Session
from codistill.types import Progress

__all__ = ["WHOLE", "Part", "TrainingStep"]

NewRecording = Callable[[torch.device], Recording]


@dataclass(frozen=True)
class Part:
    """What a batch is of an optimizer's step.

    Attributes:
        first, last: whether it is the first, and the last, whose gradients the step takes.
        share: its weight in their mean.
    """

    first: bool = True
    last: bool = True
    share: float = 1.0


WHOLE = Part()


class TrainingStep:
    """Takes a session from batch to batch.

    Args:
        session: the run.
        recording: makes a recording for a device; None: nothing is recorded.

    Attributes:
        meter: the epoch's training metrics.
    """

    def __init__(self, session: Session, recording: NewRecording | None = None) -> None:
        self.meter = session.meter
        self._session, self._recording = session, recording
        self._replayed: dict[object, Replayed[None]] = {}
        largest = session.config.optim.clip_grad
        self._clip = None if largest is None else Clipping(session.executor.group, session.executor.method, largest)
        if recording is not None:
            rate_on_device(session.optimizer, session.device)
            self._epoch = torch.zeros((), device=session.device, dtype=torch.float64)

    @classmethod
    def of(cls, session: Session) -> TrainingStep:
        """The step that the run's settings ask for."""
        return cls(session, CudaGraph if session.config.cuda_graphs else None)

    def __call__(self, batch: Batch, position: float, rate: float, part: Part = WHOLE) -> None:
        """Train on one batch, in as many turns as the method needs.

        Args:
            batch: views and labels.
            position: epochs done, 0.5 in the middle of the first one.
            rate: the learning rate.
            part: what the batch is of an optimizer's step; all of it, unless gradients are accumulated.

        Raises:
            UserError: the step is to be recorded and cannot be.
        """
        s = self._session
        set_rate(s.optimizer, rate)
        for turn in range(s.shape.peers) if s.executor.method.needs.turns else (None,):
            if self._recording is None:
                self._take(batch, Progress(position, s.epochs), turn, part)
            else:
                self._epoch.fill_(position)
                self._replay(batch, turn)

    def _take(self, batch: Batch, progress: Progress, turn: int | None, part: Part = WHOLE) -> None:
        s = self._session
        if part.first:
            s.optimizer.zero_grad(set_to_none=True)
        weights_C = s.class_weights_C
        weights = None if weights_C is None else sample_weights(weights_C, batch.labels)
        out, outputs = s.executor.train_step(
            batch.views, batch.labels, progress, turn, sample_weights=weights, scale=self._scale(part.share)
        )
        if part.last:
            self._move()
        self.meter.update(out, outputs.logits_PBC, batch.classes_B)

    def _scale(self, share: float) -> float | Tensor | None:
        """The factor on the loss."""
        scaler = self._session.scaler
        if scaler is None:
            return None if share == 1 else share
        return scaler.scale(torch.full((), share, device=self._session.device))

    def _move(self) -> None:
        """From gradients to new weights."""
        s = self._session
        if s.scaler is not None:
            s.scaler.unscale_(s.optimizer)
        if self._clip is not None:
            self._clip()
        if s.scaler is None:
            s.optimizer.step()
        else:
            s.scaler.step(s.optimizer)
            s.scaler.update()
        s.executor.after_step()

    def _replay(self, batch: Batch, turn: int | None) -> None:
        """A smaller last batch has a recording of its own, and so has a step in which layers are frozen."""
        freezing = self._session.freezing
        key = (turn, len(batch.classes_B), batch.labels.shape, freezing is not None and freezing.frozen)
        if key not in self._replayed:
            assert self._recording is not None
            s = self._session
            modules = [*s.executor.modules().values(), s.executor.teachers]
            self._replayed[key] = Replayed(self._recorded(batch, turn), self._recording(s.device), modules)
        views = (batch.views,) if isinstance(batch.views, Tensor) else batch.views
        try:
            self._replayed[key](self._epoch, batch.labels, batch.classes_B, *views)
        except NotRecordedError as error:
            raise UserError(f"cuda_graphs: the step of this run cannot be recorded ({error}); turn it off.") from error

    def _recorded(self, batch: Batch, turn: int | None) -> Callable[..., None]:
        s, several = self._session, not isinstance(batch.views, Tensor)

        def step(epoch: Tensor, labels: Tensor, classes_B: Tensor, *views: Tensor) -> None:
            own = Batch(views if several else views[0], labels, classes_B)
            self._take(own, Progress(epoch, s.epochs), turn)

        return step
