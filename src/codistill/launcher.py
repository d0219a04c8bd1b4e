"""One command for a run in several processes of this machine: starts them as torchrun does, with its agent."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence

from codistill.errors import UserError
from codistill.execution.launched import launched_processes

__all__ = ["launch", "lost_others", "processes_wanted"]


def processes_wanted(mesh: str) -> int:
    """How many processes a mesh needs on this machine: its size, or one per GPU for "auto".

    Raises:
        UserError: the text is no mesh, or "auto" on a machine without GPUs.
    """
    from codistill.execution.world import Mesh

    if mesh != "auto":
        return Mesh.parse(mesh).size
    import torch

    if not torch.cuda.device_count():
        raise UserError("mesh auto without GPUs: say how many processes share the cores, such as --mesh peer=2.")
    return torch.cuda.device_count()


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `codistill ARGUMENTS` in several processes, and return the exit code of the first that failed, or 0.

    Where OMP_NUM_THREADS is not set, they share the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // processes, 1)))
    # The process that fails says why; the agent's own account of it adds a page, and torch's warnings a line each.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="codistill-") as logs:
            return _launched(arguments, processes, logs)
    finally:
        logging.disable(before)


def lost_others(error: RuntimeError) -> bool:
    """Whether the connection to another process has failed; gloo raises plain errors, which name its files."""
    if launched_processes() is None:
        return False
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _launched(arguments: Sequence[str], processes: int, logs: str) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "codistill", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"codistill: process {rank} was killed by signal {-failure.exitcode}", file=sys.stderr)
            return 1
        return failure.exitcode
    except SignalException as stop:
        return 128 + stop.sigval
    return 0
