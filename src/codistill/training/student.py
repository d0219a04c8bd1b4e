"""Students out of a run directory, as plain networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from codistill import execution, methods
from codistill.errors import UserError
from codistill.methods import Method
from codistill.peers import PeerGroup
from codistill.training.checkpoint import checkpoint_folder, load_weights
from codistill.training.config import Config
from codistill.training.configfile import read_config
from codistill.training.files import read_json
from codistill.training.groups import build_group

__all__ = ["load_group", "load_student", "peer_index"]


def load_group(run_dir: Path | str, checkpoint: str = "last") -> tuple[Config, PeerGroup, Method, dict[str, Any]]:
    """Rebuild a run's group on the CPU in evaluation mode; its moving averages, where these are to be deployed.

    Args:
        run_dir: the run directory.
        checkpoint: "last" or "selected" (by the validation error).

    Returns:
        The configuration, the group, the method and the content of input.json.

    Raises:
        UserError: no run there, no such checkpoint, or damaged files.
    """
    run_dir = Path(run_dir)
    config, facts = read_config(run_dir / "config.yaml"), read_json(run_dir / "input.json")
    folder = checkpoint_folder(run_dir, checkpoint)
    group = build_group(config, len(facts["classes"]), (facts["channels"], facts["height"], facts["width"]))
    method = methods.build(config.method, group, teachers=len(config.teachers), **config.method_options)
    executor = execution.build("loop", group, method, average=config.average)
    load_weights(folder, executor.modules())
    executor.train(False)
    averages = executor.deployed_averages
    return config, group if averages is None else averages.group, method, facts


def load_student(run_dir: Path | str, peer: int | str = "leader", checkpoint: str = "last") -> nn.Module:
    """Return one student as the plain network that its model name stands for, on the CPU in evaluation mode.

    Args:
        run_dir: the run directory.
        peer: "leader" for the student that the run hands back (the group leader, or the student with the lowest
            validation error where the method has none), or a student's index.
        checkpoint: "last" (the headline) or "selected" (by the validation error).

    Raises:
        UserError: no run there, an unfinished run asked for its leader, or no such student.
    """
    run_dir = Path(run_dir)
    _, group, _, _ = load_group(run_dir, checkpoint)
    return group.student(peer_index(run_dir, peer, group.shape.peers, checkpoint)).eval()


def peer_index(run_dir: Path, peer: int | str, peers: int, checkpoint: str = "last") -> int:
    """The index of the student that `peer` names in this run."""
    if peer == "leader":
        if not (run_dir / "summary.json").is_file():
            raise UserError(f"{run_dir} is not finished, its leader not known: resume it, or name a peer by index.")
        return int(read_json(run_dir / "summary.json")[checkpoint]["validation"]["leader_peer"])
    try:
        index = int(peer)
    except ValueError:
        raise UserError(f"peer {peer!r}: give 'leader' or an index from 0 to {peers - 1}.") from None
    if not 0 <= index < peers:
        raise UserError(f"peer {index}: this run has the students 0 to {peers - 1}.")
    return index
