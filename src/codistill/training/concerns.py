"""What looks wrong in a run while it trains: the method's own concerns, and a student that falls behind."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from codistill.training.session import Session

__all__ = ["new_concerns"]

PATIENCE = 1 / 3
"""Share of the run before which differences between students are normal: rates and ramp-ups are still high."""

BEHIND, FACTOR = 10.0, 2.0
"""Percentage points, and times, by which a student's training error must exceed the others' median."""


def new_concerns(session: Session, error_by_peer: Sequence[float], diagnostics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what should be said after this epoch and has not been said in this run, a sentence each.

    Args:
        session: the run; its `concerns` remember what has been said.
        error_by_peer: training error of the epoch in percent, one per student.
        diagnostics: the epoch's means of the method's diagnostics.
    """
    found = {f"method {i}": text for i, text in enumerate(session.executor.method.concerns(diagnostics))}
    if session.epoch >= PATIENCE * session.epochs:
        found |= _behind(error_by_peer)
    new = {kind: text for kind, text in found.items() if kind not in session.concerns}
    session.concerns |= {kind: {"epoch": session.epoch, "text": text} for kind, text in new.items()}
    return tuple(new.values())


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
