"""Checkpoints: weights as safetensors, the rest of the state for a bit-exact resume, written all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codistill.errors import UserError, one_line
from codistill.rundir import CHECKPOINTS, SELECTED, STATE, WEIGHTS, epoch_folder

__all__ = [
    "checkpoint_folder", "latest", "load_state", "load_statistics", "load_weights", "save_checkpoint", "save_selected",
    "unshared",
]  # fmt: skip

RECALIBRATED = "recalibrated"
"""Before the names of batch-norm statistics that only evaluation uses."""


def save_checkpoint(
    run_dir: Path,
    epoch: int,
    modules: dict[str, nn.Module],
    state: dict[str, Any],
    statistics: Mapping[str, Tensor] | None = None,
) -> None:
    """Write checkpoints/epoch_NNNN, then remove the older ones; a fault at any moment leaves one complete.

    Args:
        run_dir: the run directory.
        epoch: finished epochs.
        modules: name -> module; the names become prefixes of the weights.
        state: what else is needed to continue: tensors, numbers, strings, lists and dicts of them.
        statistics: of batch norms, with which the networks are evaluated, if these are not their own.
    """
    folder = run_dir / CHECKPOINTS / epoch_folder(epoch)
    partial = _fresh(folder)
    save_file(_weights(modules, statistics), partial / WEIGHTS)
    torch.save(state, partial / STATE)
    _publish(partial, folder)
    for old in folder.parent.glob("epoch_*"):
        if old != folder:
            shutil.rmtree(old)


def save_selected(
    run_dir: Path, modules: dict[str, nn.Module], epoch: int, statistics: Mapping[str, Tensor] | None = None
) -> None:
    """Write checkpoints/selected, the weights of the epoch with the best validation error so far."""
    folder = run_dir / CHECKPOINTS / SELECTED
    partial = _fresh(folder)
    save_file(_weights(modules, statistics), partial / WEIGHTS, metadata={"epoch": str(epoch)})
    if folder.exists():
        shutil.rmtree(folder)
    _publish(partial, folder)


def latest(run_dir: Path) -> Path | None:
    """Return the folder of the newest complete checkpoint, or None."""
    whole = [f for f in (run_dir / CHECKPOINTS).glob("epoch_*") if (f / STATE).is_file()]
    return max(whole, key=lambda f: int(f.name.partition("_")[2]), default=None)


def checkpoint_folder(run_dir: Path, checkpoint: str) -> Path:
    """Return the folder of "last" (the newest complete checkpoint) or "selected"; UserError if there is none."""
    if checkpoint not in ("last", SELECTED):
        raise UserError(f"checkpoint {checkpoint!r}: choose 'last' or 'selected'.")
    folder = latest(run_dir) if checkpoint == "last" else run_dir / CHECKPOINTS / SELECTED
    if folder is None or not folder.is_dir():
        raise UserError(f"{run_dir} has no {checkpoint} checkpoint: train it first.")
    return folder


def load_weights(folder: Path, modules: dict[str, nn.Module]) -> None:
    """Load a checkpoint's weights into the modules.

    Raises:
        UserError: there are none, the file is damaged, or they belong to another network.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: the run has not reached this checkpoint; finish it with 'codistill resume'."
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): resume from a copy, or train the run again.") from error
    for prefix, module in modules.items():
        own = {k[len(prefix) + 1 :]: v for k, v in weights.items() if k.startswith(f"{prefix}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise UserError(f"{path} does not fit the run's configuration: {one_line(error)}") from error


def load_state(folder: Path) -> dict[str, Any]:
    """Load the `state` that `save_checkpoint` wrote; no code in the file is run."""
    try:
        # On the CPU first: a run from a GPU may be scored on a machine without one.
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{folder / STATE} is damaged: train the run again with --overwrite.") from error


def load_statistics(folder: Path) -> dict[str, Tensor] | None:
    """Return the `statistics` that `save_checkpoint` or `save_selected` was given, by name; None if there were none."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        start = f"{RECALIBRATED}."
        found = {k.removeprefix(start): file.get_tensor(k) for k in file.keys() if k.startswith(start)}  # noqa: SIM118
    return found or None


def _weights(modules: dict[str, nn.Module], statistics: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    named = {f"{prefix}.{k}": v for prefix, module in modules.items() for k, v in module.state_dict().items()}
    named |= {f"{RECALIBRATED}.{k}": v for k, v in (statistics or {}).items()}
    return unshared(named)


def unshared(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: dense, and tied weights as one copy per name."""
    first: dict[int, str] = {}
    dense = {k: v.detach().contiguous() for k, v in named.items()}
    owner = {k: first.setdefault(v.data_ptr(), k) for k, v in dense.items()}
    return {k: v if owner[k] == k else v.clone() for k, v in dense.items()}


def _fresh(folder: Path) -> Path:
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    return partial


def _publish(partial: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    partial.replace(folder)
