"""Each method of a paper against the network alone, over all networks and data sets of its tables that have runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codistill.reports.across_tasks import Across, across_tasks
from codistill.reports.numbers import number, span
from codistill.studies.claims import Place
from codistill.studies.results import Number

__all__ = ["HEADINGS", "OVER_TASKS", "Standing", "standings"]

HEADINGS = ("Method", "Tasks", "Runs", "Difference in error, points", "95 % interval", "Improves, %", "95 % interval")
"""Of `Standing.cells`."""

OVER_TASKS = (
    "Against the network trained alone, over all networks and data sets of the paper’s tables that have runs; each "
    "counts the same. Improves: how often a run of the method has a lower error than a run of the network alone with "
    "any of the seeds; 50 % would be chance. Intervals are those of a stratified bootstrap over seeds (Agarwal et al. "
    "2021): they describe other seeds on these tasks, and with few seeds they are too narrow."
)

TABLES = {
    "okddip": ("okddip/table1", "okddip/table2", "okddip/table3"),
    "kdcl": ("kdcl/table2", "kdcl/table6", "kdcl/table7"),
}
"""Those whose numbers are compared with the network trained alone."""


@dataclass(frozen=True)
class Standing:
    """One method: what its tasks are (network and table), and how it stands over them."""

    method: str
    tasks: tuple[str, ...]
    across: Across

    @property
    def cells(self) -> tuple[str, ...]:
        """Its line in a table."""
        a = self.across
        return (
            self.method, str(a.tasks), str(a.pairs), number(a.difference, sign=True),
            span(a.difference_low, a.difference_high), number(100 * a.improves, 0),
            span(100 * a.improves_low, 100 * a.improves_high, 0),
        )  # fmt: skip


def standings(paper: str, places: Mapping[Place, Number]) -> list[Standing]:
    """Return the methods that have runs for at least two tasks, in the order of the tables."""
    by_method: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {}
    seen = set()
    for method, task, ours, base in _against_alone(paper, places):
        seeds = sorted(ours.values.keys() & base.values.keys())
        # One measurement that stands in two tables counts once.
        if seeds and (method, ours.source) not in seen:
            seen.add((method, ours.source))
            pairs = tuple((_error(ours, s), _error(base, s)) for s in seeds)
            by_method.setdefault(method, {})[task] = pairs
    return [Standing(m, tuple(tasks), across_tasks(tasks)) for m, tasks in by_method.items() if len(tasks) > 1]


def _against_alone(paper: str, places: Mapping[Place, Number]) -> Iterator[tuple[str, str, Number, Number]]:
    """Methods are columns in OKDDip's tables, and rows in KDCL's."""
    for (study, row, column), ours in places.items():
        methods_are_rows = paper == "kdcl"
        method, network = (row, column) if methods_are_rows else (column, row)
        base = places.get((study, "vanilla", column) if methods_are_rows else (study, row, "baseline"))
        if study in TABLES[paper] and base is not None and base is not ours and ours.metric in ("error", "accuracy"):
            yield method, f"{network}, {study.partition('/')[2]}", ours, base


def _error(of: Number, seed: int) -> float:
    return of.values[seed] if of.metric == "error" else 100 - of.values[seed]
