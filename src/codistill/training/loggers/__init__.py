"""Loggers: observers that write a run's curves for another program, which is loaded only when one is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from codistill.errors import unknown
from codistill.training.loggers.curves import CurveLogger
from codistill.training.loggers.tensorboard import TensorBoard
from codistill.training.loggers.wandb import WandB

__all__ = ["LOGGERS", "CurveLogger", "TensorBoard", "WandB", "with_loggers"]

LOGGERS: dict[str, type[TensorBoard] | type[WandB]] = {"tensorboard": TensorBoard, "wandb": WandB}


def with_loggers(names: Sequence[str], observers: Iterable[object]) -> Iterable[object]:
    """Return the observers, after those loggers that are named and not among them.

    Raises:
        UserError: a logger is unknown or not installed.
    """
    if not names:
        return observers
    given = list(observers)
    if wrong := next((name for name in names if name not in LOGGERS), None):
        raise unknown("logger", wrong, LOGGERS)
    kinds = (LOGGERS[name] for name in dict.fromkeys(names))
    return [*(kind() for kind in kinds if not any(isinstance(one, kind) for one in given)), *given]
