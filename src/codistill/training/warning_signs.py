"""What an epoch's errors show: nothing learned, training that diverges or memorises, one answer to everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from codistill.rundir import Evaluation
from codistill.training.session import Session

__all__ = ["Look", "look_at", "warning_signs"]

WAIT = 1 / 3
"""Share of the run before which a network may still be at chance."""

NEAR = 0.9
"""Share of the error of guessing from which on training has learned nothing."""

LOST = 0.5
"""Share of what had been learned that an epoch must lose to be called diverging."""

MEMORISED, RISE, SHARE, LATER = 1.0, 1.0, 0.1, 3
"""Overfitting: training error (percent) below the first, validation error above its best by the second (points) and by
the third (share), for an epoch at least the fourth after the best one."""

FLOOD, USUAL = 0.9, 0.6
"""Share of the images that are taken for one class, and share of that class above which this is no wonder."""

ABSURD = 100.0
"""How many times the loss of guessing, ln(classes), a loss has that is no loss of a network that learns."""


@dataclass(frozen=True)
class Look:
    """What is looked at after an epoch; errors are in percent, of the leader or the mean student.

    Attributes:
        done: share of the run.
        training: training error.
        validation: what best epochs are chosen by on the validation images; top-1 error unless --headline says another.
        best: the lowest of it in earlier epochs; None in the first.
        since: epochs since then.
        top1: top-1 error on the validation images.
        images: how many these are.
        guessing: error of guessing at random.
        classes: their names.
        confusion: as in `Evaluation`.
        loss: negative log-likelihood on the validation images, in nats.
    """

    done: float
    training: float
    validation: float
    best: float | None
    since: int
    top1: float
    images: int
    guessing: float
    classes: Sequence[str]
    confusion: Sequence[Sequence[int]] | None
    loss: float = 0.0

    @property
    def constant(self) -> float:
        """The error of always naming the most frequent class; that of guessing if the frequencies are not known."""
        if self.confusion is None or not self.images:
            return self.guessing
        return 100 * (1 - max(map(sum, self.confusion)) / self.images)


def warning_signs(look: Look) -> dict[str, str]:
    """Return a sentence with a remedy for each kind of sign that there is."""
    signs = {"nothing learned": _nothing_learned(look), "one class": _one_class(look)}
    signs["absurd loss"] = _absurd_loss(look)
    signs |= {"diverging": _diverging(look), "overfitting": _overfitting(look)}
    # The same thing would be said twice.
    if signs["absurd loss"]:
        signs["nothing learned"] = signs["one class"] = ""
    elif signs["nothing learned"]:
        signs["one class"] = ""
    return {kind: text for kind, text in signs.items() if text}


def look_at(session: Session, error_P: Sequence[float], validation: Evaluation) -> Look:
    """Return what there is to see after an epoch; `error_P` are the training errors in percent, one per student."""
    leads = session.headline == "leader"
    best = session.best
    return Look(
        session.epoch / session.epochs,
        error_P[validation.leader_peer] if leads else sum(error_P) / len(error_P),
        session.task.rank(validation, session.headline)[0],
        best["error"] if best else None,
        session.epoch - best["epoch"] if best else 0,
        validation.score(session.headline).top1_error,
        validation.images,
        session.task.chance(),
        session.dataset.classes,
        validation.confusion,
        validation.score(session.headline).nll,
    )


def _nothing_learned(look: Look) -> str:
    share = look.constant / 100
    spread = 200 * (share * (1 - share) / max(look.images, 1)) ** 0.5
    if (
        look.done < WAIT
        or look.top1 < look.constant - spread
        or look.training < NEAR * min(look.constant, look.guessing)
    ):
        return ""
    return (
        f"after {100 * look.done:.0f} % of the run the validation error is {look.top1:.1f} %, where always naming one "
        f"class has {look.constant:.1f} %, and the training error is {look.training:.1f} %: nothing shows that the "
        "images are learned; try a tenth of --optim.lr (or more, if it is far below 0.01), look whether the labels "
        "belong to the images, and with rare classes add --sampler balanced"
    )


def _absurd_loss(look: Look) -> str:
    usual = math.log(max(len(look.classes), 2))
    # Far above this loss, weights are so large that gradients say nothing any more.
    if look.top1 < NEAR * look.constant or not look.loss > ABSURD * usual:
        return ""
    return (
        f"the validation error is {look.top1:.1f} %, as by guessing, with a loss of {look.loss:.4g} nats, where "
        f"guessing has {usual:.2f}: the weights have exploded, and will not recover; start again with a hundredth of "
        "--optim.lr, with --optim.warmup-epochs 5 or with --optim.clip-grad 1"
    )


def _one_class(look: Look) -> str:
    if look.done < WAIT or look.confusion is None or not look.images:
        return ""
    predicted = [sum(column) for column in zip(*look.confusion, strict=True)]
    named = max(range(len(predicted)), key=predicted.__getitem__)
    taken, there = predicted[named] / look.images, sum(look.confusion[named]) / look.images
    if taken <= FLOOD or there >= USUAL:
        return ""
    return (
        f"{100 * taken:.0f} % of the validation images are taken for {look.classes[named]!r}, which is "
        f"{100 * there:.0f} % of them: if one class has far more training images, add --sampler "
        "balanced or --class-weights balanced; otherwise lower --optim.lr"
    )


def _diverging(look: Look) -> str:
    if look.best is None:
        return ""
    limit = look.best + LOST * (look.guessing - look.best)
    # With a best error near that of guessing there is nothing to lose.
    if look.best > NEAR * look.guessing or min(look.validation, look.training) < limit:
        return ""
    return (
        f"the validation error is {look.validation:.1f} %, and was {look.best:.1f} % {_ago(look.since)}, with a "
        f"training error of {look.training:.1f} % now: training diverges; lower --optim.lr, "
        "or add --optim.warmup-epochs 5 or --optim.clip-grad 1"
    )


def _overfitting(look: Look) -> str:
    if look.best is None or look.since < LATER or look.training >= MEMORISED:
        return ""
    if look.validation <= look.best + max(RISE, SHARE * look.best):
        return ""
    return (
        f"the training error is {look.training:.2f} % and the validation error has risen from {look.best:.1f} % to "
        f"{look.validation:.1f} % since {_ago(look.since)}: the training images are memorised; take the selected epoch "
        "(--checkpoint selected), stop earlier (--patience 5), or add images, --augment.policies randaugment or "
        "--optim.weight-decay"
    )


def _ago(epochs: int) -> str:
    return "the epoch before" if epochs == 1 else f"{epochs} epochs ago"
