"""The training loop, read top to bottom: epochs, steps, evaluation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codistill.data import Images
from codistill.errors import RunFailedError
from codistill.rundir import Epoch, Evaluation, TrainingMeans, append_epoch
from codistill.training.batches import evaluation_images, training_batches
from codistill.training.concerns import new_concerns
from codistill.training.observers import Watchers
from codistill.training.recalibration import calibrated, lent
from codistill.training.saver import Saver
from codistill.training.schedule import learning_rate
from codistill.training.session import Session
from codistill.training.step import Part, TrainingStep
from codistill.types import PeerOutputs

__all__ = ["Trained", "evaluate", "train_epoch", "train_epochs"]

# These images are the first to see the weights after the last step of an epoch.
KEPT = " on images kept aside"


@dataclass(frozen=True)
class Trained:
    """What one pass over the training images gave; the attributes are those of `Epoch`."""

    lr: float
    images_per_second: float
    train: TrainingMeans
    diagnostics: dict[str, Any]


def train_epochs(session: Session, watchers: Watchers, saver: Saver) -> None:
    """Train from where the session is to the end, with checkpoints on the way and at the end."""
    step = TrainingStep.of(session)
    while session.epoch < session.epochs and not session.stopped_early:
        trained = train_epoch(session, watchers, step, saver)
        session.executor.assemble()
        statistics = calibrated(session)
        if session.executor.method.needs.held_out > 0:
            with lent(session, statistics or calibrated(session, held_out=True)):
                _renew_method(session)
        with lent(session, statistics):
            validation = evaluate(session, session.images("validation"), session.leader)
        _refuse_divergence(session, session.task.likelihood(validation), KEPT)
        session.epoch += 1
        elapsed = time.perf_counter() - session.began
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
        session.statistics = statistics
        _select(session, validation, saver)
        if session.leads:
            append_epoch(session.out, record)
        with saver.if_it_fails(BaseException):
            watchers.on_epoch(session, record)
        if session.world is not None:
            # Observers see one process.
            session.stop_reason = session.world.of_leader(session.stop_reason)
        saver.after_epoch()
    saver.save()


def train_epoch(
    session: Session, watchers: Watchers, step: TrainingStep | None = None, saver: Saver | None = None
) -> Trained:
    """Make one pass over the training part, or go on with one, and return what it gave.

    Args:
        session: the run.
        watchers: see every step.
        step: from earlier epochs, whose recordings it keeps; a new one if None.
        saver: saves in the middle of the epoch; without one nothing is written.
    """
    s, steps = session, session.steps
    step = step or TrainingStep.of(s)
    if s.freezing is not None:
        s.freezing.at(s.epoch)
    # The mode is set here, where the epoch starts, since evaluation has changed it.
    s.executor.train()
    if s.step == 0:
        step.meter.clear()
        s.began = time.perf_counter()
    position, rate = _at(s, max(s.step - 1, 0))
    for number, batch in enumerate(training_batches(s), s.step):
        part = _part_of(number, steps, s.config.accumulate)
        position, rate = _at(s, number)
        step(batch, position, rate, part)
        s.step = number + 1
        # Gradients that are still being added up are in no checkpoint.
        with saver.if_it_fails() if saver is not None and part.last else nullcontext():
            watchers.on_step(s, number + 1, steps)
        if saver is not None and part.last:
            saver.after_step()
    train, diagnostics = step.meter.result()
    _refuse_divergence(s, train.loss)
    # The next state to be saved is that after the epoch.
    s.step = 0
    return Trained(rate, int(step.meter.images) / (time.perf_counter() - s.began), train, diagnostics)


def _at(session: Session, number: int) -> tuple[float, float]:
    """The position in the run and the learning rate of a batch: those of the first one of its optimizer's step."""
    first = number - number % session.config.accumulate
    position = session.epoch + first / session.steps
    return position, learning_rate(session.config.optim, position, session.epochs)


def _part_of(number: int, steps: int, accumulate: int) -> Part:
    """Which part of its optimizer's step a batch is.

    The last step of an epoch may have fewer batches; it takes their mean too.
    """
    first = number - number % accumulate
    count = min(accumulate, steps - first)
    return Part(number == first, number == first + count - 1, 1 / count)


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


def _select(session: Session, validation: Evaluation, saver: Saver) -> None:
    """Keep the weights of the epoch with the best validation headline; the test set has no say in it."""
    error, nll = session.task.rank(validation, session.headline)
    if not session.best or (error, nll) < (session.best["error"], session.best["nll"]):
        session.best = {"epoch": session.epoch, "error": error, "nll": nll}
        saver.keep_best()


def _refuse_divergence(session: Session, loss: float, images: str = "") -> None:
    if not math.isfinite(loss):
        raise RunFailedError(
            f"the loss of epoch {session.epoch + 1}{images} is {loss}: training has diverged; lower optim.lr (now "
            f"{session.config.optim.lr_used}) or set optim.warmup_epochs. The last checkpoint is kept."
        )
