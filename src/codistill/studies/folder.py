"""The folder of a profile's studies: whether they may be written there."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from codistill.errors import UserError
from codistill.rundir import LOCK
from codistill.studies.study import Study

__all__ = ["RUNS", "refuse_other_folder"]

RUNS = "runs"
"""The run directories of all studies."""

REPORTED = "numbers.csv"
"""By this, the folder of a study's report is recognised."""

EARLY = {f"{name}.csv" for name in ("comparison", "peers", "epochs", "loss_parts", "attention", "reliability")}
"""What is written there before it."""


def refuse_other_folder(folder: Path, studies: Sequence[Study]) -> None:
    """Raise UserError where the folder, or that of a study's report in it, holds something else; nothing is changed."""
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        raise UserError(f"out {file} is a file: give the path of a folder.")
    if not (folder / RUNS).is_dir():
        _refuse(folder, {LOCK, "slurm", *(study.folder for study in studies)})
    for study in studies:
        place = folder / study.folder
        if place.is_file():
            raise UserError(f"out {place} is a file, and a study's report goes there: give another --out.")
        if not (place / REPORTED).is_file():
            _refuse(place, EARLY)


def _refuse(folder: Path, known: Container[str]) -> None:
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    others = [name for name in there if name not in known and not (folder / name / REPORTED).is_file()]
    if others:
        raise UserError(
            f"out {folder} is not empty and holds no study (there is {', '.join(others[:3])}"
            f"{' and more' if len(others) > 3 else ''}): give another --out, or empty it yourself."
        )
