"""A run in several processes: how each one of them sees its settings, and how they find each other."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from codistill import execution
from codistill.config import Config, filled, identity
from codistill.errors import UserError
from codistill.execution.launched import launched_processes
from codistill.execution.world import Mesh, choose_mesh
from codistill.rundir import is_complete
from codistill.training.check import check_config

__all__ = ["as_launched", "checked_in_one", "joined", "launch_of", "restarted", "still_to_run"]

POLL = 0.02
"""Seconds between two looks into the store."""


def still_to_run(run_dir: Path) -> bool:
    """Whether a run has something left for which processes are worth starting."""
    return not is_complete(run_dir)


def as_launched(config: Config) -> Config:
    """Return the settings as this process trains with them: as they are, unless torchrun has started it.

    Raises:
        UserError: several processes are asked for and torchrun has not started this one, or it has, and the executor
            that is asked for is one of a single process.
    """
    processes = launched_processes()
    if processes is None:
        if config.mesh is None and not _is_of_several(config):
            return config
        asked = f"mesh {config.mesh}" if config.mesh else f"executor {config.executor!r}"
        raise UserError(
            f"{asked} in a process that torchrun did not start: use the command line (codistill train ... --mesh "
            "peer=2), which starts the processes, or torchrun with your script (docs/distributed.md)."
        )
    executor = execution.find(config.executor).in_several
    if executor is None:
        raise UserError(
            f"executor {config.executor!r} in one of {processes} processes that torchrun has started: each would train "
            "all of the run; leave --executor out, or start one process."
        )
    device = config.device
    if device in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return dataclasses.replace(config, executor=executor, mesh=config.mesh or "auto", device=device)


def _is_of_several(config: Config) -> bool:
    return execution.find(config.executor).in_several == config.executor


def restarted() -> bool:
    """Whether torchrun has started this process in place of one that ended."""
    return launched_processes() is not None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def launch_of(config: Config) -> str:
    """Which start by torchrun this is, the same in all its restarts, and of which settings; "" without torchrun."""
    if launched_processes() is None:
        return ""
    settings = hashlib.sha256(identity(config).encode()).hexdigest()
    return f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {settings}"


def checked_in_one(config: Config) -> Config:
    """Return the checked settings of a run without its mesh, before processes are started.

    Raises:
        UserError: what `check_config` refuses, and a mesh that the other settings do not allow.
    """
    checked = check_config(dataclasses.replace(config, mesh=None))
    if config.mesh is None:
        return checked
    if execution.find(config.executor).in_several is None:
        raise UserError(
            f"mesh {config.mesh} with the executor {config.executor!r}, which is for one process: leave --executor "
            "out, or give --mesh None."
        )
    if config.mesh != "auto":
        shared = checked.group != "networks"
        choose_mesh(config.mesh, Mesh.parse(config.mesh).size, filled(checked.peers), shared)
    return checked


def meeting_place(store: Store, rank: int, processes: int, seconds: float) -> str:
    """Return a name that the processes of this start share, and those of no earlier one.

    torchrun keeps its store from start to start, with the addresses of processes that have died; whoever is early
    would connect to these. Each process writes a new token, the first one answers each token with the name that it has
    chosen, and whoever finds its own token in the answer knows that the name is of this start.

    Raises:
        UserError: the others have not come within `seconds`.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + seconds
    if rank != 0:
        store.set(f"token/{rank}", own)
        while True:
            answer = store.get(f"answer/{rank}").decode() if store.check([f"answer/{rank}"]) else ""
            token, _, place = answer.partition(" ")
            if token == own:
                store.set(f"{place}/{rank}", "")
                return place
            _pause(until, processes)
    missing = set(range(1, processes))
    while missing:
        for other in [r for r in missing if store.check([f"token/{r}"])]:
            store.set(f"answer/{other}", store.get(f"token/{other}").decode() + f" {own}")
        missing = {r for r in missing if not store.check([f"{own}/{r}"])}
        _pause(until, processes)
    return own


def _pause(until: float, processes: int) -> None:
    if time.monotonic() > until:
        raise UserError(
            f"not all of {processes} processes have come: look at what the others print; --rank-timeout says how long "
            "to wait."
        )
    time.sleep(POLL)


@contextmanager
def joined(config: Config) -> Iterator[None]:
    """A scope in which the processes of a run are connected; without effect for a run of one process.

    Connections are gloo's on CPUs; on CUDA devices nccl's, and gloo's for what lies in the host's memory.
    """
    if not _is_of_several(config) or dist.is_initialized():
        yield
        return
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(seconds=config.rank_timeout)
    store, rank, processes = next(rendezvous("env://", timeout=timeout))
    store = PrefixStore(meeting_place(store, rank, processes, config.rank_timeout), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=timeout)
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.destroy_process_group()
