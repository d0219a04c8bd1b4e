"""What a checkpoint holds, copied while training goes on, and written.

A checkpoint is on disk as a whole before it has its name, and only then is an older one removed.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from codistill import __version__
from codistill.printable import json_text
from codistill.rundir import (
    CHECKPOINTS,
    MANIFEST,
    SELECTED,
    STATE,
    WEIGHTS,
    Manifest,
    checksum,
    make_folder,
    publish_folder,
    remove,
    step_folder,
    write_into,
)  # fmt: skip
from codistill.training.checkpoint import RECALIBRATED, checkpoints

__all__ = ["Snapshot", "capture", "prune", "publish", "tensors_in", "unshared"]


@dataclass(frozen=True)
class Snapshot:
    """What one checkpoint holds, in memory of its own: training may go on.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the next one.
        weights: name -> tensor.
        state: what else is needed to continue; None for the weights of the best epoch.
    """

    epoch: int
    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any] | None = None


def capture(
    modules: Mapping[str, nn.Module],
    statistics: Mapping[str, Tensor] | None = None,
    state: dict[str, Any] | None = None,
    epoch: int = 0,
    step: int = 0,
) -> Snapshot:
    """Copy what a checkpoint holds to memory of the host.

    Args:
        modules: name -> module; the names become prefixes of the weights.
        statistics: of batch norms, with which the networks are evaluated, if these are not their own.
        state: tensors, numbers, strings, lists and dicts of them.
        epoch: finished epochs.
        step: finished steps of the next one.
    """
    named = {f"{prefix}.{k}": v for prefix, module in modules.items() for k, v in module.state_dict().items()}
    named |= {f"{RECALIBRATED}.{k}": v for k, v in (statistics or {}).items()}
    return Snapshot(epoch, step, {k: _held(v) for k, v in named.items()}, _held(state))


def publish(run_dir: Path, snapshot: Snapshot, code: Mapping[str, str] | None = None, data: str | None = None) -> Path:
    """Write a checkpoint, or checkpoints/selected for one without a state; at every moment an earlier one is whole.

    Raises:
        OSError: the disk refuses it. What was there before is still there.
    """
    last = snapshot.state is not None
    folder = run_dir / CHECKPOINTS / (step_folder(snapshot.epoch, snapshot.step) if last else SELECTED)
    contents = {WEIGHTS: save(unshared(snapshot.weights), metadata={"epoch": str(snapshot.epoch)})}
    if last:
        memory = io.BytesIO()
        torch.save(snapshot.state, memory)
        contents[STATE] = memory.getvalue()
    manifest = Manifest(
        epoch=snapshot.epoch,
        step=snapshot.step,
        files={name: checksum(content) for name, content in contents.items()},
        versions={"codistill": __version__, "torch": torch.__version__, "python": platform.python_version()},
        code=code or {},
        data=data,
    )
    partial = folder.with_name(f".{folder.name}.partial")
    remove(partial)
    make_folder(partial)
    try:
        for name, content in contents.items():
            write_into(partial, name, content)
        write_into(partial, MANIFEST, f"{json_text(manifest.sealed().to_json())}\n".encode())
        publish_folder(partial, folder)
    except BaseException:
        remove(partial)
        raise
    return folder


def prune(run_dir: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints."""
    for old in checkpoints(run_dir)[keep:]:
        remove(old)


def unshared(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them: dense, and tied weights as one copy per name."""
    first: dict[int, str] = {}
    dense = {k: v.detach().contiguous() for k, v in named.items()}
    owner = {k: first.setdefault(v.data_ptr(), k) for k, v in dense.items()}
    return {k: v if owner[k] == k else v.clone() for k, v in dense.items()}


def tensors_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Every tensor of nested data with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_in(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from tensors_in(item, (*path, str(number)))


def _held(value: Any) -> Any:
    """A copy of nested data with every tensor in memory of its own on the host."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _held(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_held(item) for item in value)
    return value
