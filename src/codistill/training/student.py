"""Students from a run directory, as plain networks."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from codistill import execution, methods
from codistill.config import Config, read_config
from codistill.errors import UserError
from codistill.methods import Method
from codistill.peers import PeerGroup
from codistill.rundir import CONFIG, INPUT, SUMMARY, InputRecord, Summary, is_complete, read_record
from codistill.training.checkpoint import read_checkpoint
from codistill.training.groups import NetworkSource, build_group

__all__ = ["load_group", "load_student", "peer_index", "recorded_leader"]


def load_group(
    run_dir: Path | str, checkpoint: str = "last", *, network: NetworkSource | None = None
) -> tuple[Config, PeerGroup, Method, InputRecord]:
    """Rebuild a run's group on the CPU in evaluation mode, with moving averages as weights if these are deployed.

    Args:
        run_dir: the run directory.
        checkpoint: "last" or "selected" (by the validation error).
        network: the networks again, if `train` was given them.

    Returns:
        The configuration, the group, the method and the content of input.json.

    Raises:
        UserError: there is no run or checkpoint, a file is damaged, or the networks are missing or others.
    """
    run_dir = _as_path(run_dir)
    config, facts = read_config(run_dir / CONFIG), read_record(run_dir / INPUT, InputRecord)
    found = read_checkpoint(run_dir, checkpoint)
    group = build_group(config, len(facts.classes), (facts.channels, facts.height, facts.width), network)
    method = methods.build(config.method, group, teachers=len(config.teachers), **config.method_options)
    executor = execution.build("loop", group, method, average=config.average)
    found.load_into(executor.modules())
    executor.train(False)
    averages = executor.deployed_averages
    deployed = group if averages is None else averages.group
    buffers = dict(deployed.named_buffers())
    for name, value in (found.statistics or {}).items():
        buffers[name].copy_(value)
    return config, deployed, method, facts


def load_student(
    run_dir: Path | str,
    peer: int | str = "leader",
    checkpoint: str = "last",
    *,
    network: NetworkSource | None = None,
) -> nn.Module:
    """Return one student as the plain network that its model name stands for, on the CPU in evaluation mode.

    Args:
        run_dir: the run directory.
        peer: "leader" for the student that the run hands back (the group leader, or the student with the lowest
            validation error if the method has none), or a student's index.
        checkpoint: "last" (the headline) or "selected" (by the validation error).
        network: the networks again, if `train` was given them; they are copied.

    Raises:
        UserError: there is no run or no such student, the run is unfinished and its leader not known, or the networks
            are missing or others.
    """
    run_dir = _as_path(run_dir)
    _, group, _, _ = load_group(run_dir, checkpoint, network=network)
    return group.student(peer_index(run_dir, peer, group.shape.peers, checkpoint)).eval()


def peer_index(run_dir: Path, peer: int | str, peers: int, checkpoint: str = "last") -> int:
    """Return the index of the student that `peer` names in this run."""
    if peer == "leader":
        if not is_complete(run_dir):
            raise UserError(
                f"{run_dir} is not finished, so its leader is not known: resume it, or name a peer by its index."
            )
        return recorded_leader(run_dir, checkpoint)
    try:
        index = int(peer)
    except (TypeError, ValueError):
        raise UserError(f"peer {peer!r}: give 'leader' or an index from 0 to {peers - 1}.") from None
    if not 0 <= index < peers:
        raise UserError(f"peer {index}: this run has the students 0 to {peers - 1}.")
    return index


def _as_path(run_dir: Path | str) -> Path:
    if not isinstance(run_dir, str | os.PathLike):
        raise UserError(f"run_dir is a {type(run_dir).__name__}: give the path of a run directory.")
    return Path(run_dir)


def recorded_leader(run_dir: Path, checkpoint: str) -> int:
    """Return the student that a finished run hands back with the weights of this checkpoint."""
    summary = read_record(run_dir / SUMMARY, Summary)
    return (summary.last if checkpoint == "last" else summary.selected).validation.leader_peer
