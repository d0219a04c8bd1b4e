"""Executors: they own the networks and run one training step across the output boundary."""

from codistill.errors import unknown
from codistill.execution.base import Executor, through_boundary
from codistill.execution.loop import LoopExecutor

__all__ = ["EXECUTORS", "Executor", "LoopExecutor", "find", "through_boundary"]

EXECUTORS: dict[str, type[LoopExecutor]] = {"loop": LoopExecutor}


def find(name: str) -> type[LoopExecutor]:
    """Return the class of an executor by its name; UserError where there is none."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    return EXECUTORS[name]
