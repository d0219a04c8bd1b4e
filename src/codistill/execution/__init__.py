"""Executors: they own the networks and run one training step across the output boundary."""

from __future__ import annotations

import torch

from codistill.errors import UserError, unknown
from codistill.execution.auto import Trial, free_bytes, try_executors
from codistill.execution.base import Executor, through_boundary
from codistill.execution.fused import FusedExecutor
from codistill.execution.layout import lay_out
from codistill.execution.loop import LoopExecutor
from codistill.execution.processes import ProcessExecutor
from codistill.execution.recompute import RecomputeExecutor
from codistill.methods import Method
from codistill.peers import PeerGroup

__all__ = [
    "EXECUTORS",
    "Executor",
    "FusedExecutor",
    "LoopExecutor",
    "ProcessExecutor",
    "RecomputeExecutor",
    "Trial",
    "build",
    "find",
    "free_bytes",
    "lay_out",
    "through_boundary",
    "try_executors",
]

EXECUTORS: dict[str, type[LoopExecutor]] = {
    "loop": LoopExecutor,
    "fused": FusedExecutor,
    "recompute": RecomputeExecutor,
    "processes": ProcessExecutor,
}


def find(name: str) -> type[LoopExecutor]:
    """Return the class of an executor by its name; UserError where there is none."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    return EXECUTORS[name]


def build(
    name: str,
    group: PeerGroup,
    method: Method,
    amp: torch.dtype | None = None,
    micro_batch: int | None = None,
    compiled: bool = False,
) -> LoopExecutor:
    """Return the executor of that name for a group on its device.

    Args:
        name: one of `EXECUTORS`.
        group: the peers.
        method: the loss on their outputs.
        amp: dtype of mixed precision, or None.
        micro_batch: for `recompute` only, see there.
        compiled: by torch.compile; for `loop` and `fused` only.

    Raises:
        UserError: an unknown name, a group that this executor does not run, or one that cannot be compiled.
    """
    if compiled and name not in ("loop", "fused"):
        raise UserError(f"compile with executor {name!r}: only 'loop' and 'fused' can be; leave one out.")
    if name == "recompute":
        executor: LoopExecutor = RecomputeExecutor(group, method, amp, micro_batch)
    else:
        executor = find(name)(group, method, amp)
    if compiled:
        executor.compile()
    return executor
