"""The runs of studies in a folder, and all numbers of a paper that they give."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from codistill.errors import UserError
from codistill.rundir import Run, is_run, read_run
from codistill.studies.claims import Place
from codistill.studies.results import Number, numbers
from codistill.studies.run_list import folder_stem
from codistill.studies.study import Study

__all__ = ["Store"]


class Store:
    """Run directories of one profile. Each run is read once.

    Args:
        folder: the profile's folder, with the run directories in its "runs".
        seeds: use only seeds 0 to seeds - 1; None for all that are there.
    """

    def __init__(self, folder: Path, seeds: int | None = None) -> None:
        self.by_stem: dict[str, list[Run]] = {}
        for directory in sorted((folder / "runs").glob("*-seed*")):
            name = re.fullmatch(r"(.+)-seed(\d+)", directory.name)
            if name and is_run(directory) and (seeds is None or int(name[2]) < seeds):
                try:
                    self.by_stem.setdefault(name[1], []).append(read_run(directory))
                except UserError as damage:
                    warnings.warn(f"left out of the report: {damage}", stacklevel=2)

    def runs(self, study: Study) -> dict[str, list[Run]]:
        """Return the runs of each variant that have begun, by seed."""
        found = {name: self.by_stem.get(folder_stem(study, name), []) for name in study.variants}
        return {name: sorted(runs, key=lambda run: run.seed) for name, runs in found.items()}

    def places(self, studies: list[Study]) -> dict[Place, Number]:
        """Return every number of the studies by its place."""
        return {(s.name, n.row, n.column): n for s in studies for n in numbers(s, self.runs(s))}
