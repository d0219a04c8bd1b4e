"""A run in several processes: how each one of them sees its settings, and how they find each other."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from codistill.config import Config
from codistill.errors import UserError
from codistill.execution.world import launched_processes

__all__ = ["as_launched", "joined", "restarted"]

OURS = ("auto", "distributed")


def as_launched(config: Config) -> Config:
    """Return the settings as this process trains with them: as they are, unless torchrun has started it.

    Raises:
        UserError: several processes are asked for and torchrun has not started this one, or it has, and the executor
            that is asked for is one of a single process.
    """
    processes = launched_processes()
    if processes is None:
        if config.mesh is None and config.executor != "distributed":
            return config
        asked = f"mesh {config.mesh}" if config.mesh else "executor 'distributed'"
        raise UserError(
            f"{asked} in a process that torchrun did not start: use the command line (codistill train ... --mesh "
            "peer=2), which starts the processes, or torchrun with your script (docs/distributed.md)."
        )
    if config.executor not in OURS:
        raise UserError(
            f"executor {config.executor!r} in one of {processes} processes that torchrun has started: each would train "
            "all of the run; leave --executor out, or start one process."
        )
    device = config.device
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return dataclasses.replace(config, executor="distributed", mesh=config.mesh or "auto", device=device)


def restarted() -> bool:
    """Whether torchrun has started this process in place of one that ended."""
    return launched_processes() is not None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


@contextmanager
def joined(config: Config) -> Iterator[None]:
    """A scope in which the processes of a run are connected; without effect for a run of one process.

    Connections are gloo's on CPUs; on CUDA devices nccl's, and gloo's for what lies in the host's memory.
    """
    if config.executor != "distributed" or dist.is_initialized():
        yield
        return
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=config.rank_timeout))
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.destroy_process_group()
