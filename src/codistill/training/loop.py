"""The training loop, read top to bottom: epochs, steps, evaluation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from codistill.data import Images
from codistill.errors import UserError
from codistill.rundir import Epoch, Evaluation, Summary, TrainingMeans
from codistill.training.batches import evaluation_images, training_batches
from codistill.training.checkpoint import save_checkpoint, save_selected
from codistill.training.concerns import new_concerns
from codistill.training.recalibration import calibrated, lent
from codistill.training.schedule import learning_rate
from codistill.training.session import Session
from codistill.training.step import Part, TrainingStep
from codistill.types import PeerOutputs

__all__ = ["Observer", "Trained", "evaluate", "train_epoch", "train_epochs"]

# These images are the first to see the weights after the last step of an epoch.
KEPT = " on images kept aside"


class Observer(Protocol):
    """Watches a run; all calls come from the training process, in order."""

    def on_start(self, session: Session) -> None:
        """Before the first epoch (or the first after a resume)."""

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """After every training step; must not wait for the device."""

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """After every epoch; `record` is its line of metrics.jsonl."""

    def on_end(self, session: Session, summary: Summary) -> None:
        """After the summary is written."""


@dataclass(frozen=True)
class Trained:
    """What one pass over the training images gave; the attributes are those of `Epoch`."""

    lr: float
    images_per_second: float
    train: TrainingMeans
    diagnostics: dict[str, Any]


def train_epochs(session: Session, observers: Sequence[Observer]) -> None:
    """Train from the session's epoch to the end, with a checkpoint after every epoch."""
    step = TrainingStep.of(session)
    while session.epoch < session.epochs and not session.stopped_early:
        start = time.perf_counter()
        trained = train_epoch(session, observers, step)
        if session.executor.method.needs.held_out > 0:
            _renew_method(session)
        statistics = calibrated(session)
        with lent(session, statistics):
            validation = evaluate(session, session.images("validation"), session.leader)
        _refuse_divergence(session, session.task.likelihood(validation), KEPT)
        session.epoch += 1
        elapsed = time.perf_counter() - start
        session.seconds += elapsed
        record = Epoch(
            epoch=session.epoch,
            lr=trained.lr,
            seconds=elapsed,
            images_per_second=trained.images_per_second,
            train=trained.train,
            # The matrix of every epoch would take more space than all other numbers.
            validation=dataclasses.replace(validation, confusion=None),
            diagnostics=trained.diagnostics,
            concerns=new_concerns(session, trained.train.error_by_peer, trained.diagnostics, validation),
        )
        _select(session, validation, statistics)
        for observer in observers:
            observer.on_epoch(session, record)
        save_checkpoint(session.out, session.epoch, session.executor.modules(), session.state(), statistics)


def train_epoch(session: Session, observers: Sequence[Observer], step: TrainingStep | None = None) -> Trained:
    """Make one pass over the training part and return what it gave; nothing is written.

    Args:
        session: the run.
        observers: see every step.
        step: from earlier epochs, whose recordings it keeps; a new one if None.
    """
    s, steps, start = session, session.steps, time.perf_counter()
    step = step or TrainingStep.of(s)
    if s.freezing is not None:
        s.freezing.at(s.epoch)
    # The mode is set here, where the epoch starts, since evaluation has changed it.
    s.executor.train()
    step.meter.clear()
    rate = 0.0
    for number, batch in enumerate(training_batches(s)):
        first, part = _part_of(number, steps, s.config.accumulate)
        position = s.epoch + first / steps
        rate = learning_rate(s.config.optim, position, s.epochs)
        step(batch, position, rate, part)
        for observer in observers:
            observer.on_step(s, number + 1, steps)
    train, diagnostics = step.meter.result()
    _refuse_divergence(s, train.loss)
    return Trained(rate, int(step.meter.images) / (time.perf_counter() - start), train, diagnostics)


def _part_of(number: int, steps: int, accumulate: int) -> tuple[int, Part]:
    """The first batch of the optimizer's step to which a batch belongs, and which part of it the batch is.

    The last step of an epoch may have fewer batches; it takes their mean too.
    """
    first = number - number % accumulate
    count = min(accumulate, steps - first)
    return first, Part(number == first, number == first + count - 1, 1 / count)


@torch.no_grad()
def evaluate(
    session: Session, images: Images, leader: int | None, watch: Callable[[PeerOutputs, Tensor], None] | None = None
) -> Evaluation:
    """Score all peers and ensembles on `images` in evaluation mode.

    Args:
        session: the run.
        images: one of its parts.
        leader: as in `EvaluationMeter.result`.
        watch: sees the outputs and labels of every batch.
    """
    session.executor.train(False)
    meter = session.task.evaluation_meter(session.device)
    for outputs, labels_B in _predictions(session, images):
        session.task.score(meter, outputs, labels_B, session.executor.method)
        if watch is not None:
            watch(outputs, labels_B)
    return meter.result(leader)


def _predictions(session: Session, images: Images) -> Iterator[tuple[PeerOutputs, Tensor]]:
    for x, labels_B in evaluation_images(session, images):
        yield session.executor.predict(x), labels_B


def _renew_method(session: Session) -> None:
    session.executor.train(False)
    held_out = session.images("held_out")
    prob = [session.task.probabilities(outputs) for outputs, _ in _predictions(session, held_out)]
    prob_PNC = torch.cat(prob, dim=1)
    _refuse_divergence(session, float(prob_PNC.sum()), KEPT)
    session.executor.method.renew(prob_PNC, held_out.labels_N.to(session.device))


def _select(session: Session, validation: Evaluation, statistics: Mapping[str, Tensor] | None) -> None:
    """Keep the weights of the epoch with the best validation headline; the test set has no say in it."""
    error, nll = session.task.rank(validation, session.headline)
    if not session.best or (error, nll) < (session.best["error"], session.best["nll"]):
        session.best = {"epoch": session.epoch, "error": error, "nll": nll}
        save_selected(session.out, session.executor.modules(), session.epoch, statistics)


def _refuse_divergence(session: Session, loss: float, images: str = "") -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss of epoch {session.epoch + 1}{images} is {loss}: training has diverged; lower optim.lr (now "
            f"{session.config.optim.lr_used}) or set optim.warmup_epochs. The checkpoint of epoch {session.epoch} is "
            "kept."
        )
