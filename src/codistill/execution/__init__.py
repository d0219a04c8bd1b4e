"""Executors: they own the networks and run one training step across the output boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.execution.auto import AutoExecutor, Trial, free_bytes
    from codistill.execution.base import AMP, Executor, through_boundary
    from codistill.execution.catalog import EXECUTORS, build, check_executor, find
    from codistill.execution.distributed import DistributedExecutor
    from codistill.execution.fused import FusedExecutor
    from codistill.execution.layout import lay_out
    from codistill.execution.loop import LoopExecutor
    from codistill.execution.options import ExecutionOptions
    from codistill.execution.recompute import RecomputeExecutor

__all__ = [
    "AMP",
    "EXECUTORS",
    "AutoExecutor",
    "DistributedExecutor",
    "ExecutionOptions",
    "Executor",
    "FusedExecutor",
    "LoopExecutor",
    "RecomputeExecutor",
    "Trial",
    "build",
    "check_executor",
    "find",
    "free_bytes",
    "lay_out",
    "through_boundary",
]

import_on_use(
    __name__,
    {
        "auto": "AutoExecutor Trial free_bytes",
        "base": "AMP Executor through_boundary",
        "catalog": "EXECUTORS build check_executor find",
        "distributed": "DistributedExecutor",
        "fused": "FusedExecutor",
        "layout": "lay_out",
        "loop": "LoopExecutor",
        "options": "ExecutionOptions",
        "recompute": "RecomputeExecutor",
    },
)
