"""Finds out what a path is, and opens the student in it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from codistill.errors import UserError
from codistill.rundir import CONFIG, INPUT, STUDENT
from codistill.students.student import Student

if TYPE_CHECKING:
    from codistill.training.groups import NetworkSource

__all__ = ["open_student"]

FILES = ("student.safetensors", "model.safetensors", "student.pt2", "student.onnx")
"""What an export is recognised by; where a folder holds several, the first of them is opened."""


def open_student(
    path: Path | str,
    *,
    device: str | None = None,
    peer: int | str = "leader",
    checkpoint: str = "last",
    network: NetworkSource | None = None,
) -> Student:
    """Open a trained student to classify pictures with.

    Args:
        path: a run directory, a folder that `codistill export` wrote, or the file with the weights in it.
        device: such as "cpu" or "cuda:0"; None: a GPU if there is one. An ONNX file runs on the CPU if None.
        peer: of a run directory: "leader", or the index of a student.
        checkpoint: of a run directory: "last" or "selected".
        network: the network again, if `train` was given it and the file does not hold it.

    Raises:
        UserError: there is no student at `path`, a file is damaged or of a newer version, does not say what the student
            needs, or belongs to others than those next to it; a package or the device is not there.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"student is a {type(path).__name__}: give the path of a run directory or an exported student.")
    path, place = Path(path).expanduser(), "auto" if device is None else str(device)
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; give a run directory or an exported student.")
    if path.is_dir() and ((path / CONFIG).is_file() or (path / INPUT).is_file()):
        from codistill.students.network import from_run

        return from_run(path, place, peer, checkpoint, network)
    if (peer, checkpoint) != ("leader", "last"):
        raise UserError(
            f"{path} holds one exported student: peer and checkpoint are for run directories; leave them out."
        )
    file = _file_in(path) if path.is_dir() else path
    if file.suffix == ".onnx":
        from codistill.students.onnx_file import from_onnx

        return from_onnx(file, "cpu" if device is None else place)
    if file.suffix == ".pt2":
        from codistill.students.program import from_program

        return from_program(file, place)
    if file.suffix == ".safetensors":
        return _from_weights(file, place, network)
    raise UserError(f"{file} is no student: give a run directory, or a file or folder that 'codistill export' wrote.")


def _file_in(folder: Path) -> Path:
    there = [folder / name for name in FILES if (folder / name).is_file()]
    if not there:
        raise UserError(
            f"{folder} holds no student ({', '.join(FILES)}): give a run directory, or a folder that "
            "'codistill export' wrote."
        )
    if len(there) > 1:
        others = ", ".join(file.name for file in there[1:])
        warnings.warn(f"{there[0]} is opened; the folder also holds {others}: give a file to choose", stacklevel=3)
    return there[0]


def _from_weights(file: Path, device: str, network: NetworkSource | None) -> Student:
    card = file.parent / STUDENT
    if not card.is_file():
        raise UserError(
            f"{file.parent} has no {STUDENT}, which says what network the weights are of and what its classes are "
            "called: copy it there from the export, or export the student again."
        )
    from codistill.students.network import from_weights

    return from_weights(file, card, device, network)
