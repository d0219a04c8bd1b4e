"""All executors by name, and `build`, which makes one for a group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from codistill.errors import UserError, unknown
from codistill.execution.auto import AutoExecutor
from codistill.execution.base import Executor
from codistill.execution.distributed import DistributedExecutor
from codistill.execution.fused import FusedExecutor
from codistill.execution.loop import LoopExecutor
from codistill.execution.options import ExecutionOptions
from codistill.execution.recompute import RecomputeExecutor
from codistill.methods import Method
from codistill.peers import PeerGroup, Teachers

__all__ = ["EXECUTORS", "build", "check_executor", "find"]

EXECUTORS: dict[str, type[Executor]] = {
    "loop": LoopExecutor,
    "fused": FusedExecutor,
    "recompute": RecomputeExecutor,
    "distributed": DistributedExecutor,
    "auto": AutoExecutor,
}


def find(name: str) -> type[Executor]:
    """Return the class of an executor by its name; UserError where there is none."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    return EXECUTORS[name]


def check_executor(options: ExecutionOptions, kind: str, device: str) -> None:
    """Refuse what the named executor does not take.

    Args:
        options: as given.
        kind: "networks", "branches" or "tree".
        device: type of the device.

    Raises:
        UserError: an option that this executor does not read, or a group or device that it does not run.
    """
    _check_taken(options.executor, options)
    if options.cuda_graphs and device != "cuda":
        raise UserError(f"cuda_graphs on the device {device!r}: only CUDA devices have them; turn cuda_graphs off.")
    refusal = find(options.executor).refusal(kind, device)
    if refusal is not None:
        raise UserError(refusal)


def _check_taken(name: str, options: ExecutionOptions) -> None:
    """UserError for an option that this executor does not read."""
    usual, executor = ExecutionOptions(), find(name)
    # What only the choice by trial reads stays in the settings of the executor that it has chosen.
    for option in ("compile", "micro_batch", "cuda_graphs", "mesh"):
        value = getattr(options, option)
        if value not in (getattr(usual, option), False) and option not in executor.takes:
            takers = ", ".join(known for known, other in EXECUTORS.items() if option in other.takes)
            raise UserError(
                f"{option} {value} with the executor {name!r}: only {takers} can do that; leave one of them out."
            )


def build(
    name: str,
    group: PeerGroup,
    method: Method,
    options: ExecutionOptions | None = None,
    teachers: Sequence[nn.Module] | Teachers = (),
    **given: Any,
) -> Executor:
    """Return the executor of that name for a group on its device.

    Args:
        name: one of `EXECUTORS`.
        group: the peers.
        method: the loss on their outputs.
        options: how they run; the defaults if None.
        teachers: frozen teachers, for methods that learn from some.
        given: single fields of `ExecutionOptions`, such as micro_batch=32.

    Raises:
        UserError: an unknown name or option, a group that this executor does not run, or needs that it cannot meet.
    """
    options = options or ExecutionOptions()
    for field in given:
        if field not in vars(options):
            raise unknown("option of executors", field, vars(options))
    options = dataclasses.replace(options, **given)
    options.check_values()
    _check_taken(name, options)
    executor = find(name)(group, method, options, teachers)
    if options.compile:
        executor.compile()
    return executor
