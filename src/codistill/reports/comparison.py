"""Runs compared: one row per variant, with statistics over its seeds and the difference to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from codistill.errors import UserError, unknown
from codistill.reports.grouping import group_by_data, group_runs
from codistill.reports.settings import baseline_conditions, distinguishing_settings, experiment_of
from codistill.reports.statistics import Estimate, Paired, estimate, holm, paired
from codistill.rundir import Run, Score, Summary

__all__ = ["FEW_SEEDS", "Comparison", "Row", "Table", "compare"]

FEW_SEEDS = 3
"""With fewer finished seeds than these, a row supports no conclusion."""


@dataclass(frozen=True)
class Row:
    """One variant: runs that differ only in the seed. Errors are in percent, and None while no seed is finished.

    Attributes:
        name: the label, followed by the networks where the table has several.
        runs: one run per seed, in the order of the seeds, finished or not.
        headline: whose error represents the variant: "leader", or "mean" of the students.
        error: top-1 test error of the headline with the weights of the last epoch.
        error_selected: the same with the weights of the epoch that was selected on the validation images.
        ensemble: top-1 test error of the students' averaged predictions; None for a single network.
        ensemble_selected: the same with the weights of the selected epoch.
        seconds: training time.
        times_baseline: mean training time as a multiple of the baseline's.
        parameters: of the network that is deployed.
        baseline: name of the row that it is compared with; None where there is none.
        paired: `error` minus the baseline's on the seeds that both have finished.
        p_holm: `paired.p` after Holm's correction for all rows of the table.
    """

    name: str
    label: str
    runs: tuple[Run, ...]
    headline: str | None = None
    error: Estimate | None = None
    error_selected: Estimate | None = None
    ensemble: Estimate | None = None
    ensemble_selected: Estimate | None = None
    seconds: Estimate | None = None
    times_baseline: float | None = None
    parameters: int | None = None
    baseline: str | None = None
    paired: Paired | None = None
    p_holm: float | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.runs[0].method

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks in the group."""
        return self.runs[0].models

    @property
    def peers(self) -> int:
        """Number of students."""
        return max(run.peers for run in self.runs)

    @property
    def finished(self) -> tuple[Run, ...]:
        """The complete runs. Every number of the row is computed from these."""
        return tuple(run for run in self.runs if run.summary)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """The results of the complete runs, by seed."""
        return tuple(run.summary for run in self.runs if run.summary)

    @property
    def few_seeds(self) -> bool:
        """Whether fewer than 3 seeds are finished, so that the row supports no conclusion."""
        return len(self.finished) < FEW_SEEDS

    @property
    def is_baseline(self) -> bool:
        """Whether the row is a network trained alone."""
        return self.method == "baseline"


@dataclass(frozen=True)
class Table:
    """All rows on the same images: baselines first, the others in the order in which they were given.

    `heading` is written above the table where there are several; the data set's name if left out.
    """

    data: str
    rows: tuple[Row, ...]
    heading: str = ""


@dataclass(frozen=True)
class Comparison:
    """One table per data set: errors on different images are not compared."""

    tables: tuple[Table, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all tables."""
        return tuple(row for table in self.tables for row in table.rows)


def compare(runs: Sequence[Run], baseline: str | None = None) -> Comparison:
    """Group runs into rows and tables and compare each row with its baseline.

    Args:
        runs: finished or not; runs that differ only in the seed are the seeds of one row (see `group_runs`).
        baseline: label of the rows to compare with; by default those of the method `baseline` with the same networks.
            A baseline must be in the same table and have the same image size, subset, validation split and number of
            epochs; of several, the one that differs in the fewest settings is taken.

    Raises:
        UserError: there is no run; one run would count twice; seeds of one row disagree on the headline; no row has
            the label `baseline`.
    """
    if not runs:
        raise UserError("no runs to compare: a comparison needs at least one; give a run directory.")
    by_data = {
        data: [_row(label, members) for label, members in group_runs(on_it)] for data, on_it in group_by_data(runs)
    }
    labels = [row.label for rows in by_data.values() for row in rows]
    if baseline is not None and baseline not in labels:
        raise unknown("label of a baseline", baseline, labels)
    return Comparison(tuple(Table(data, _compared(_named(rows), baseline)) for data, rows in by_data.items()))


def _row(label: str, members: Sequence[Run]) -> Row:
    row = Row(name=label, label=label, runs=tuple(members))
    done = row.summaries
    if not done:
        return row
    headlines = sorted({summary.headline for summary in done})
    if len(headlines) > 1:
        raise UserError(
            f"the seeds of {label!r} have the headlines {' and '.join(headlines)}: one row averages one quantity; "
            "give these runs different labels, or leave some out."
        )
    headline = headlines[0]

    def over_seeds(pick: Callable[[Summary], Score]) -> Estimate:
        return estimate([pick(summary).top1_error for summary in done])

    single = all(summary.peers == 1 for summary in done)
    return replace(
        row,
        headline=headline,
        error=over_seeds(lambda s: s.last.test.score(headline)),
        error_selected=over_seeds(lambda s: s.selected.test.score(headline)),
        ensemble=None if single else over_seeds(lambda s: s.last.test.ensemble),
        ensemble_selected=None if single else over_seeds(lambda s: s.selected.test.ensemble),
        seconds=estimate([summary.seconds.training for summary in done]),
        parameters=done[0].parameters.deployed,
    )


def _named(rows: list[Row]) -> list[Row]:
    rows = sorted(rows, key=lambda row: not row.is_baseline)
    if len({_networks(row) for row in rows}) == 1:
        return rows
    return [replace(row, name=f"{row.label}, {' + '.join(_networks(row))}") for row in rows]


def _networks(row: Row) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.models))


def _compared(rows: list[Row], baseline: str | None) -> tuple[Row, ...]:
    compared = []
    for row in rows:
        base = _baseline_of(row, rows, baseline)
        found = base and _paired_rows(row, base)
        if base and found:
            row = replace(row, baseline=base.name, paired=found, times_baseline=_times(row, base))
        compared.append(row)
    adjusted = holm([row.paired.p if row.paired else None for row in compared])
    return tuple(replace(row, p_holm=p) for row, p in zip(compared, adjusted, strict=True))


def _times(row: Row, base: Row) -> float | None:
    return row.seconds.mean / base.seconds.mean if row.seconds and base.seconds and base.seconds.mean > 0 else None


def _baseline_of(row: Row, rows: Sequence[Row], baseline: str | None) -> Row | None:
    if baseline is None:
        candidates = [other for other in rows if other.is_baseline and set(other.models) == set(row.models)]
    else:
        candidates = [other for other in rows if other.label == baseline]
    if row in candidates:
        return None

    def differences(other: Row, pick: Callable[[Run], Mapping[str, str]]) -> int:
        return len(distinguishing_settings([pick(row.runs[0]), pick(other.runs[0])]))

    candidates = [other for other in candidates if not differences(other, baseline_conditions)]
    # Equally near ones by name, so that the order in which runs are given does not matter.
    return min(candidates, key=lambda other: (differences(other, experiment_of), other.name), default=None)


def _paired_rows(row: Row, base: Row) -> Paired | None:
    if row.error is None or base.error is None:
        return None
    of_base = dict(zip((s.seed for s in base.summaries), base.error.values, strict=True))
    pairs = [
        (value, of_base[summary.seed])
        for summary, value in zip(row.summaries, row.error.values, strict=True)
        if summary.seed in of_base
    ]
    return paired(*zip(*pairs, strict=True)) if pairs else None
