"""Checkpoints as they are read: weights as safetensors, the state for a bit-exact resume, a manifest with checksums.

What is read is checked; where the newest is damaged, the one before serves.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from codistill.errors import UserError, one_line
from codistill.rundir import (
    CHECKPOINTS,
    MANIFEST,
    SELECTED,
    STATE,
    SUMMARY,
    WEIGHTS,
    Manifest,
    Summary,
    is_complete,
    parse_record,
    read_record,
    step_folder,
)  # fmt: skip

__all__ = ["RECALIBRATED", "Checkpoint", "checkpoints", "latest", "read_checkpoint"]

RECALIBRATED = "recalibrated"
"""Before the names of batch-norm statistics that only evaluation uses."""

TRIES = 5
"""How often a reader begins again because a run in progress has removed what it was reading."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read, and found whole.

    Attributes:
        folder: where it was.
        weights: name -> tensor.
        state: as in `Snapshot`.
        manifest: None for runs of versions that wrote none, whose content nothing can check.
        damaged: why newer ones could not be read, a sentence each.
    """

    folder: Path
    weights: dict[str, Tensor]
    state: dict[str, Any] | None
    manifest: Manifest | None
    damaged: tuple[str, ...] = ()

    def load_into(self, modules: Mapping[str, nn.Module]) -> None:
        """Load the weights; UserError where a tensor is missing, left over, or of another shape or type."""
        path, left = self.folder / WEIGHTS, dict(self.weights)
        for prefix, module in modules.items():
            own = {k[len(prefix) + 1 :]: left.pop(k) for k in list(left) if k.startswith(f"{prefix}.")}
            for name, wanted in module.state_dict().items():
                if name in own and own[name].dtype != wanted.dtype:
                    raise UserError(
                        f"{path} does not fit the run's configuration: {prefix}.{name} is {own[name].dtype}, not "
                        f"{wanted.dtype}."
                    )
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise UserError(f"{path} does not fit the run's configuration: {one_line(error)}") from error
        others = [name for name in left if not name.startswith(f"{RECALIBRATED}.")]
        if others:
            raise UserError(f"{path} does not fit the run's configuration: it holds {others[0]}, which the run lacks.")

    @property
    def statistics(self) -> dict[str, Tensor] | None:
        """Batch-norm statistics to evaluate with, by name; None where the networks' own serve."""
        start = f"{RECALIBRATED}."
        return {k.removeprefix(start): v for k, v in self.weights.items() if k.startswith(start)} or None


def checkpoints(run_dir: Path) -> list[Path]:
    """The folders of complete checkpoints, newest first."""
    whole = [f for f in (run_dir / CHECKPOINTS).glob("epoch_*") if _place(f) is not None and (f / STATE).is_file()]
    return sorted(whole, key=lambda folder: _place(folder) or (0, 0), reverse=True)


def latest(run_dir: Path) -> Path | None:
    """The folder of the newest complete checkpoint, or None."""
    return next(iter(checkpoints(run_dir)), None)


def read_checkpoint(run_dir: Path, which: str = "last") -> Checkpoint:
    """Read "last", the newest checkpoint that is whole, or "selected"; no code in the files is run.

    A damaged one is passed over with a warning, unless the run is finished: then no other has its results. A run that
    trains meanwhile is no obstacle.

    Raises:
        UserError: there is none, or none is whole, or it was written by a newer version.
    """
    if which not in ("last", SELECTED):
        raise UserError(f"checkpoint {which!r}: choose 'last' or 'selected'.")
    damaged: list[str] = []
    for attempt in range(TRIES):
        damaged.clear()
        try:
            for folder in _candidates(run_dir, which):
                try:
                    found = _read(folder, last=which == "last")
                except _DamagedError as error:
                    damaged.append(str(error))
                else:
                    _refuse_other_epoch(run_dir, which, found)
                    for reason in damaged:
                        warnings.warn(f"{reason}: {found.folder.name} is used in its place", stacklevel=2)
                    return Checkpoint(found.folder, found.weights, found.state, found.manifest, tuple(damaged))
        except FileNotFoundError:
            # Removed while it was read, since the run has gone on.
            if attempt == TRIES - 1:
                raise
            continue
        break
    remedy = "restore it from a copy, or train the run again with --overwrite"
    if damaged:
        raise UserError(f"{run_dir} has no whole {which} checkpoint ({'; '.join(damaged)}): {remedy}.")
    if is_complete(run_dir):
        raise UserError(
            f"{run_dir} is finished, but the {which} checkpoint, to which its results belong, is gone: {remedy}."
        )
    finish = "finish the run with 'codistill resume', or " if which == SELECTED and latest(run_dir) else ""
    raise UserError(f"{run_dir} has no {which} checkpoint: {finish}start it again with 'codistill train --overwrite'.")


def _refuse_other_epoch(run_dir: Path, which: str, found: Checkpoint) -> None:
    """UserError where a finished run's results belong to the selected weights of another epoch."""
    if which != SELECTED or found.manifest is None or not is_complete(run_dir):
        return
    epoch = read_record(run_dir / SUMMARY, Summary).selected.epoch
    if found.manifest.epoch != epoch:
        raise UserError(
            f"{found.folder} is of epoch {found.manifest.epoch}, and the results of {run_dir} are of epoch {epoch}: "
            "restore it from a copy, or train the run again with --overwrite."
        )


class _DamagedError(Exception):
    """A checkpoint is not what was written."""


def _candidates(run_dir: Path, which: str) -> Iterable[Path]:
    if which == "last" and is_complete(run_dir):
        epoch = read_record(run_dir / SUMMARY, Summary).last.epoch
        return [folder for folder in checkpoints(run_dir) if folder.name == step_folder(epoch)]
    if which == "last":
        return checkpoints(run_dir)
    folder = run_dir / CHECKPOINTS / SELECTED
    # The second is there for a moment while a better epoch takes its place.
    return [place for place in (folder, folder.with_name(f"{SELECTED}.old")) if place.is_dir()]


def _read(folder: Path, last: bool) -> Checkpoint:
    names = (WEIGHTS, STATE) if last else (WEIGHTS,)
    contents = {name: (folder / name).read_bytes() for name in names if _is_file(folder / name)}
    manifest = _manifest(folder)
    fault = None if manifest is None else manifest.fault(folder, contents)
    missing = next((name for name in names if name not in contents), None)
    if fault or missing:
        raise _DamagedError(fault or f"{folder / str(missing)} is missing")
    try:
        weights = load(contents[WEIGHTS])
    except (SafetensorError, ValueError) as error:
        raise _DamagedError(f"{folder / WEIGHTS} is damaged ({one_line(error)})") from error
    return Checkpoint(folder, weights, _loaded(folder / STATE, contents[STATE]) if last else None, manifest)


def _manifest(folder: Path) -> Manifest | None:
    path = folder / MANIFEST
    if not _is_file(path):
        return None
    try:
        return parse_record(str(path), path, path.read_bytes(), Manifest)
    except UserError as error:
        if "newer codistill" in str(error):
            raise
        raise _DamagedError(f"{path} is damaged") from error


def _loaded(path: Path, content: bytes) -> dict[str, Any]:
    try:
        # On the CPU first: a run from a GPU may go on, or be scored, on a machine without one.
        stream = io.BytesIO(content)
        state = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _DamagedError(f"{path} is damaged") from error
    if not isinstance(state, dict):
        raise _DamagedError(f"{path} holds no state")
    return state


def _is_file(path: Path) -> bool:
    """Whether a file is there; FileNotFoundError where the folder itself has gone."""
    if not path.parent.is_dir():
        raise FileNotFoundError(path.parent)
    return path.is_file()


def _place(folder: Path) -> tuple[int, int] | None:
    """The finished epochs and steps in a folder's name; None for another name."""
    numbers = folder.name.removeprefix("epoch_").split("_step_")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
