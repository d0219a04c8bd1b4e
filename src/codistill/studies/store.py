"""The finished runs of studies in a folder, and all numbers of a paper that rest on them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from codistill.errors import UserError
from codistill.reports.run import Run, is_run, read_run
from codistill.studies.claims import Place
from codistill.studies.plan import folder_stem
from codistill.studies.results import Number, numbers
from codistill.studies.study import Study

__all__ = ["Store"]


class Store:
    """Run directories of one profile; every run is read once.

    Args:
        folder: the profile's folder; run directories lie in its "runs".
        seeds: count seeds 0 to seeds - 1 only; None for all that are there.
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
        """Variant -> its runs that have begun, by seed."""
        found = {name: self.by_stem.get(folder_stem(study, name), []) for name in study.variants}
        return {name: sorted(runs, key=lambda run: run.seed) for name, runs in found.items()}

    def places(self, studies: list[Study]) -> dict[Place, Number]:
        """Every number of the studies by its place."""
        return {(s.name, n.row, n.column): n for s in studies for n in numbers(s, self.runs(s))}
