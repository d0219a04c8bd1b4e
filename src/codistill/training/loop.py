"""The training loop, read top to bottom: epochs, steps, evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from codistill import data
from codistill.data import Images
from codistill.errors import UserError
from codistill.rundir import Epoch, Evaluation, Summary, TrainingMeans
from codistill.training.batches import evaluation_images, training_batches
from codistill.training.checkpoint import save_checkpoint, save_selected
from codistill.training.concerns import new_concerns
from codistill.training.schedule import learning_rate
from codistill.training.seeds import derive_seed
from codistill.training.session import Session
from codistill.types import PeerOutputs, Progress

__all__ = ["Observer", "Trained", "evaluate", "layer_randomness", "train_epoch", "train_epochs"]

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
    while session.epoch < session.epochs:
        start = time.perf_counter()
        trained = train_epoch(session, observers)
        if session.executor.method.needs.held_out > 0:
            _renew_method(session)
        validation = evaluate(session, _part(session, session.splits.validation_N), session.leader)
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
            validation=validation,
            diagnostics=trained.diagnostics,
            concerns=new_concerns(session, trained.train.error_by_peer, trained.diagnostics),
        )
        _select(session, validation)
        for observer in observers:
            observer.on_epoch(session, record)
        save_checkpoint(session.out, session.epoch, session.executor.modules(), session.state())


def train_epoch(session: Session, observers: Sequence[Observer]) -> Trained:
    """Make one pass over the training part and return what it gave; nothing is written."""
    s, part, start = session, session.splits.train_N, time.perf_counter()
    # The mode is set here, where the epoch starts, since evaluation has changed it.
    s.executor.train()
    meter = s.task.training_meter(s.device)
    steps = data.batch_count(len(part), s.config.batch_size, s.config.last_batch)
    rate = 0.0
    for step, batch in enumerate(training_batches(s)):
        position = s.epoch + step / steps
        rate = _set_rate(s, learning_rate(s.config.optim, position, s.epochs))
        for turn in range(s.shape.peers) if s.executor.method.needs.turns else (None,):
            s.optimizer.zero_grad(set_to_none=True)
            out, outputs = s.executor.train_step(batch.views, batch.labels, Progress(position, s.epochs), turn)
            s.optimizer.step()
            s.executor.after_step()
            meter.update(out, outputs.logits_PBC, batch.classes_B)
        for observer in observers:
            observer.on_step(s, step + 1, steps)
    train, diagnostics = meter.result()
    _refuse_divergence(s, train.loss)
    return Trained(rate, meter.images / (time.perf_counter() - start), train, diagnostics)


@torch.no_grad()
def evaluate(session: Session, images: Images, leader: int | None) -> Evaluation:
    """Score all peers and ensembles on `images` in evaluation mode; `leader` as in `EvaluationMeter.result`."""
    session.executor.train(False)
    meter = session.task.evaluation_meter(session.device)
    for outputs, labels_B in _predictions(session, images):
        session.task.score(meter, outputs, labels_B, session.executor.method)
    return meter.result(leader)


def _predictions(session: Session, images: Images) -> Iterator[tuple[PeerOutputs, Tensor]]:
    for x, labels_B in evaluation_images(session, images):
        yield session.executor.predict(x), labels_B


def _renew_method(session: Session) -> None:
    session.executor.train(False)
    held_out = _part(session, session.splits.held_out_N)
    prob = [session.task.probabilities(outputs) for outputs, _ in _predictions(session, held_out)]
    prob_PNC = torch.cat(prob, dim=1)
    _refuse_divergence(session, float(prob_PNC.sum()), KEPT)
    session.executor.method.renew(prob_PNC, held_out.labels_N.to(session.device))


def _part(session: Session, index_N: Tensor) -> Images:
    return session.dataset.train.take(index_N)


def _set_rate(session: Session, rate: float) -> float:
    for parameters in session.optimizer.param_groups:
        parameters["lr"] = rate
    return rate


def _select(session: Session, validation: Evaluation) -> None:
    """Keep the weights of the epoch with the lowest validation error; the test set has no say in it."""
    error, nll = session.task.rank(validation, session.headline)
    if not session.best or (error, nll) < (session.best["error"], session.best["nll"]):
        session.best = {"epoch": session.epoch, "error": error, "nll": nll}
        save_selected(session.out, session.executor.modules(), session.epoch)


def _refuse_divergence(session: Session, loss: float, images: str = "") -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"the loss of epoch {session.epoch + 1}{images} is {loss}: training has diverged; lower optim.lr (now "
            f"{session.config.optim.lr}) or set optim.warmup_epochs. The checkpoint of epoch {session.epoch} is kept."
        )


@contextmanager
def layer_randomness(session: Session) -> Iterator[None]:
    """Let dropout and the like draw from the run's own seed; the caller's random state is put back afterwards.

    Layers such as dropout can draw from torch's default generator only, so the run borrows it. To repeat results,
    convolutions on CUDA also use repeatable algorithms, and the number of threads is the configured one.
    """
    s = session
    threads = torch.get_num_threads()
    with (
        torch.random.fork_rng(devices=[s.device] if s.device.type == "cuda" else []),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        torch.manual_seed(derive_seed(s.config.seed, "layers"))
        if s.config.threads is not None:
            torch.set_num_threads(s.config.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
