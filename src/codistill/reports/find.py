"""Find runs below folders."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from codistill.errors import UserError
from codistill.rundir import Run, is_run, read_run

__all__ = ["find_runs"]


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """Read the runs at `paths`: each is a run directory, or a folder that is searched for runs below it.

    Runs of one folder are in the order of their names, with numbers by value (`seed2` before `seed10`). A run that is
    reached twice counts once.

    Raises:
        UserError: a path does not exist or has no run below it, no path is given, or a run is damaged.
    """
    if not paths:
        raise UserError("no path given: a report needs at least one run; name a run directory or a folder of runs.")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        directories = _runs_below(path)
        if not directories:
            what = "is not a folder" if not path.is_dir() else "has no run in it or below it"
            raise UserError(
                f"{path} {what}: a run is a folder with config.yaml and metrics.jsonl; "
                "give a directory that `codistill train --out` wrote, or a folder above such directories."
            )
        for directory in directories:
            found.setdefault(directory.resolve(), directory)
    return [read_run(directory) for directory in found.values()]


def _runs_below(path: Path) -> list[Path]:
    found = []
    for folder, below, _ in os.walk(path):
        if is_run(Path(folder)):
            found.append(Path(folder))
            # A run's own folders, such as checkpoints and exports, hold no other runs.
            below.clear()
    return sorted(found, key=_by_number)


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]
