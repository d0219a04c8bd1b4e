"""What looks wrong in a run while it trains: the method's own concerns, a student that falls behind, learning that does
not show in evaluation, weights that grow without end, and views that are empty."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from codistill.data import ImageSet
from codistill.peers import PeerGroup
from codistill.rundir import Evaluation
from codistill.training.empty_views import empty_views
from codistill.training.recalibration import LEFT, share_of_start, wanted
from codistill.training.session import Session
from codistill.training.warning_signs import look_at, warning_signs

__all__ = ["new_concerns"]

PATIENCE = 1 / 3
"""Share of the run before which differences between students are normal: rates and ramp-ups are still high."""

BEHIND, FACTOR = 10.0, 2.0
"""Percentage points, and times, by which a student's training error must exceed the others' median."""

LEARNED, AT_CHANCE = 0.7, 0.9
"""Share of the error of guessing, below which training has learned, and above which validation is near chance."""

HUGE = 1e6
"""Magnitude above which a weight has left what any initialisation and sensible training give."""


def new_concerns(
    session: Session,
    error_by_peer: Sequence[float],
    diagnostics: Mapping[str, Any],
    validation: Evaluation | None = None,
) -> tuple[str, ...]:
    """Return what should be said after this epoch and has not been said in this run, a sentence each.

    Args:
        session: the run; its `concerns` remember what has been said.
        error_by_peer: training error of the epoch in percent, one per student.
        diagnostics: the epoch's means of the method's diagnostics.
        validation: the epoch's scores, if they are to be compared with the training error.
    """
    found = {f"method {i}": text for i, text in enumerate(session.executor.method.concerns(diagnostics))}
    if session.epoch >= PATIENCE * session.epochs:
        found |= _behind(error_by_peer)
        if validation is not None:
            found |= _at_chance(session, error_by_peer, validation)
    if validation is not None:
        found |= warning_signs(look_at(session, error_by_peer, validation))
        found |= _huge_weights(session.executor.group) | _empty_views(session)
    new = {kind: text for kind, text in found.items() if kind not in session.concerns}
    session.concerns |= {kind: {"epoch": session.epoch, "text": text} for kind, text in new.items()}
    return tuple(new.values())


def _at_chance(session: Session, error_P: Sequence[float], validation: Evaluation) -> dict[str, str]:
    """A sentence where a student learns in training mode and knows nothing in evaluation mode, and why."""
    chance = session.task.chance()
    errors = [(train, score.top1_error) for train, score in zip(error_P, validation.peers, strict=True)]
    worst = [pair for pair in errors if pair[0] < LEARNED * chance and pair[1] > AT_CHANCE * chance]
    if not worst:
        return {}
    train, tested = min(worst)
    left = share_of_start(session.executor.group, session.epoch * session.steps)
    text = f"the error is {train:.1f} % in training and {tested:.1f} % in validation, where guessing has {chance:.1f} %"
    if not wanted(session) and left is not None and left[0] > LEFT:
        share, momentum = left
        why = (
            f"batch norm's statistics, of momentum {momentum:g}, still hold {100 * share:.0f} % of their start values: "
            "add --recalibrate-bn on, or train for more epochs"
        )
    else:
        why = "the validation images or labels may differ in kind from the training ones, or the students only memorise"
        if left is not None and not wanted(session):
            lag = "batch norm's statistics can lag behind while the rate is high (--recalibrate-bn on helps)"
            why = f"{lag}; if this stays when the rate falls, {why}"
    return {"at chance": f"{text}: {why}"}


def _behind(error_P: Sequence[float]) -> dict[str, str]:
    said = {}
    for peer, error in enumerate(error_P):
        others = [*error_P[:peer], *error_P[peer + 1 :]]
        usual = statistics.median(others) if others else error
        if error > usual + BEHIND and error > FACTOR * usual:
            said[f"peer {peer}"] = (
                f"student {peer} has {error:.1f} % training error where the others have {usual:.1f} %: look at its "
                "curve in the report, and try a lower optim.lr or another seed"
            )
    return said


@torch.no_grad()
def _huge_weights(group: PeerGroup) -> dict[str, str]:
    """A sentence on the largest weight of all students where it is above `HUGE`."""
    named = [
        (f"{name} of student {peer}", parameter)
        for peer in range(group.shape.peers)
        for name, parameter in group.peer_parameters(peer).items()
        if parameter.requires_grad and parameter.numel()
    ]
    if not named:
        return {}
    # One number is read back from the device, however many parameters there are.
    largest = torch.stack([parameter.abs().amax().float() for _, parameter in named])
    value, at = (float(x) for x in largest.max(0))
    if not value > HUGE:
        return {}
    return {
        "huge weights": (
            f"{named[int(at)][0]} has weights up to {value:.1e}: training diverges, or is about to; lower optim.lr, or "
            "add --optim.clip-grad 1 or weight decay"
        )
    }


def _empty_views(session: Session) -> dict[str, str]:
    images = session.dataset.train
    _, height, width = images.shape
    return empty_views(session.config.augment, height, width, isinstance(images, ImageSet))
