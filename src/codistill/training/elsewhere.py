"""A run that goes on, or is scored, on another device or with another precision than those it began with."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from codistill import execution
from codistill.config import Config, filled, identity
from codistill.errors import UserError
from codistill.execution import DistributedExecutor
from codistill.execution.launched import launched_processes
from codistill.execution.world import Mesh, choose_mesh
from codistill.rundir import Move, read_moves, write_moves
from codistill.training.check import is_here, resolve_device
from codistill.training.interruption import resume_command
from codistill.training.launch import as_launched

__all__ = ["device_to_score_on", "record_move", "settings_here"]


def settings_here(
    config: Config, run_dir: Path, device: str | None = None, amp: str | None = None, mesh: str | None = None
) -> Config:
    """Return the settings with which a run goes on on this machine; one warning says what that changes.

    Args:
        config: the run's settings.
        run_dir: the run directory.
        device: where to go on; the run's device if None.
        amp: the precision; the run's if None.
        mesh: how processes share the work; the run's if None and there are as many.

    Raises:
        UserError: the run's device is not here and no other is given, or the given one is not here.
    """
    before = config.device
    after = _same_kind(before) if device is None else str(resolve_device(device))
    if after is None:
        raise _not_here(config, run_dir)
    changed: dict[str, Any] = {"device": after, "amp": amp or config.amp}
    kind = torch.device(after).type
    if kind != torch.device(before).type:
        # What was measured or asked for on the other kind of device says nothing about this one.
        changed |= {"cuda_graphs": None if config.cuda_graphs else config.cuda_graphs, "compile": False}
        executor = execution.find(config.executor)
        if executor.refusal(config.group, kind) is not None:
            changed["executor"] = executor.evaluates_as or "loop"
    changed |= _processes_here(config, mesh)
    new = {name: value for name, value in changed.items() if getattr(config, name) != value}
    if new:
        said = ", ".join(f"{name} {value}" for name, value in new.items())
        same_kind = before.startswith("cuda") and new == {"device": "cuda:0"}
        surely = "may" if same_kind or new.keys() <= {"executor", "mesh", "cuda_graphs", "compile"} else "will"
        were = ", ".join(f"{name} {getattr(config, name)}" for name in new)
        warnings.warn(
            f"{run_dir} goes on with {said} (before: {were}): its numbers {surely} differ from those of an "
            "undisturbed run",
            stacklevel=3,
        )
    return dataclasses.replace(config, **new)


def _processes_here(config: Config, mesh: str | None) -> dict[str, Any]:
    """The executor and mesh for the processes that there are, where the run has had others."""
    processes, before = launched_processes(), config.mesh
    if processes is None:
        if mesh is not None:
            as_launched(dataclasses.replace(config, mesh=mesh))  # for what it refuses
        return {} if before is None else {"executor": DistributedExecutor.evaluates_as, "mesh": None}
    if mesh is None and before is not None and Mesh.parse(before).size == processes:
        return {}
    apart = config.group == "networks"
    found = choose_mesh(mesh or "auto", processes, filled(config.peers), not apart)
    return {"executor": DistributedExecutor.name, "mesh": str(found), "cuda_graphs": None, "compile": False}


def record_move(run_dir: Path, epoch: int, before: Config, after: Config) -> tuple[Move, ...]:
    """Add to moves.json in which settings two configurations differ; return all moves of the run up to now.

    Args:
        run_dir: the run directory.
        epoch: finished epochs.
        before: the run's settings, as config.yaml has them.
        after: the settings with which the run goes on.
    """
    moves = read_moves(run_dir)
    then, now = json.loads(identity(before)), json.loads(identity(after))
    names = [name for name in now if then[name] != now[name]]
    if names:
        moves = (*moves, Move(epoch=epoch, before={n: then[n] for n in names}, after={n: now[n] for n in names}))
        write_moves(run_dir, moves)
    return moves


def device_to_score_on(config: Config, run_dir: Path, device: str | None = None) -> str:
    """Return where a run is scored: on `device`, else on the run's, else (one warning says so) on what is here."""
    if device is not None:
        return device
    if is_here(config.device):
        return config.device
    there = _same_kind(config.device) or str(resolve_device("auto"))
    warnings.warn(f"{run_dir} ran on {config.device}, which is not here: it is scored on {there}", stacklevel=3)
    return there


def _same_kind(device: str) -> str | None:
    """The device itself if it is here, else the first one of its kind, else None."""
    if is_here(device):
        return device
    first = f"{device.partition(':')[0]}:0"
    return first if is_here(first) else None


def _not_here(config: Config, run_dir: Path) -> UserError:
    off = "" if config.amp == "off" else " --amp off"
    return UserError(
        f"{run_dir} trains on {config.device}, which is not here, and on another device its numbers will differ from "
        f"those of an undisturbed run; to go on all the same: {resume_command(run_dir)} --device cpu{off}"
    )
