"""A study's numbers: every entry over its seeds, with the paper's number, the difference to its base, and gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codistill.reports.statistics import Estimate, Paired, estimate, holm, paired
from codistill.rundir import Outcome, Run, Score
from codistill.studies.paper import Printed, printed_table
from codistill.studies.run_list import folder_stem
from codistill.studies.study import Entry, Study

__all__ = ["UNITS", "Number", "Runs", "numbers", "value_of"]

UNITS = {"gain": "points", "parameters": "millions"}
"""Units of the metrics that are not a percentage."""

Runs = Mapping[str, Sequence[Run]]
"""Variant -> its runs, one per seed."""


@dataclass(frozen=True)
class Number:
    """One number of the table.

    Attributes:
        row: its row.
        column: its column; "gain" for the sum of a row's improvements.
        metric: "error" or "accuracy" in percent, "gain" in points, "parameters" in millions.
        values: seed -> value, with the weights of the last epoch.
        ours: mean, deviation and interval of `values`; None while no seed is finished.
        selected: the same with the weights of the epoch that was selected on the validation images.
        printed: the paper's number.
        paired: ours minus the base's, on the seeds that both have; None for an entry without a base.
        p_holm: its p-value after Holm's correction for all numbers of the table.
        source: the runs, whose score it is, and which one; two numbers with one source are one measurement.
    """

    row: str
    column: str
    metric: str
    values: Mapping[int, float]
    ours: Estimate | None
    selected: Estimate | None
    printed: Printed | None
    paired: Paired | None = None
    p_holm: float | None = None
    source: tuple[str, ...] = ()

    @property
    def off(self) -> float | None:
        """Ours minus the paper's."""
        return self.ours.mean - self.printed.value if self.ours and self.printed else None


def numbers(study: Study, runs: Runs) -> list[Number]:
    """Return all numbers of the table, row by row, with a row's gain at its end."""
    table = printed_table(study.paper, study.table)
    plain = {(e.row, e.column): _number(study, e, runs, table.number(e.row, e.column)) for e in study.entries}
    compared = [_compared(plain[e.row, e.column], _base(study, e, plain)) for e in study.entries]
    adjusted = holm([n.paired.p if n.paired else None for n in compared])
    found = [replace(n, p_holm=p) for n, p in zip(compared, adjusted, strict=True)]
    return [n for row in study.rows for n in [*(n for n in found if n.row == row), *_gain(study, row, plain)]]


def value_of(study: Study, entry: Entry, run: Run, outcome: Outcome) -> float | None:
    """Return an entry's value in one finished run, with the weights of "last" or "selected"; None if it has none."""
    assert run.summary is not None
    if entry.what == "parameters":
        return run.summary.parameters.training / 1e6
    test = outcome.test
    score: Score | None
    if entry.who.startswith("peer "):
        score = test.peers[int(entry.who.removeprefix("peer "))]
    elif entry.who in ("ensemble_own", "ensemble_logits"):
        score = {"ensemble_own": test.ensemble_own, "ensemble_logits": test.ensemble_logits}[entry.who]
    else:
        score = test.score(run.summary.headline if entry.who == "headline" else entry.who)
    error = getattr(score, entry.what) if score else None
    return error if error is None or study.metric == "error" else 100 - error


def _number(study: Study, entry: Entry, runs: Runs, printed: Printed | None) -> Number:
    done = [(run, run.summary) for run in runs.get(entry.variant, ()) if run.summary]
    scored = {run.seed: value_of(study, entry, run, summary.last) for run, summary in done}
    last = {seed: value for seed, value in scored.items() if value is not None}
    chosen = [value_of(study, entry, run, summary.selected) for run, summary in done]
    selected = [value for value in chosen if value is not None]
    metric = "parameters" if entry.what == "parameters" else study.metric
    return Number(
        entry.row, entry.column, metric, last, estimate(list(last.values())) if last else None,
        estimate(selected) if selected else None, printed,
        source=(folder_stem(study, entry.variant), entry.who, entry.what),
    )  # fmt: skip


def _base(study: Study, entry: Entry, plain: Mapping[tuple[str, str], Number]) -> Number | None:
    """Return what the entry is compared with; None where that is the same run."""
    same = {(e.row, e.column) for e in study.entries if (e.variant, e.who) == (entry.variant, entry.who)}
    return plain.get(entry.base) if entry.base is not None and entry.base not in same else None


def _compared(number: Number, base: Number | None) -> Number:
    shared = sorted(number.values.keys() & base.values.keys()) if base else []
    if base is None or not shared:
        return number
    return replace(number, paired=paired([number.values[s] for s in shared], [base.values[s] for s in shared]))


def _gain(study: Study, row: str, plain: Mapping[tuple[str, str], Number]) -> list[Number]:
    """Return the sum over the networks of (accuracy - accuracy of that network trained alone), seed by seed."""
    places = [((row, column), ("vanilla", column)) for column in study.gain]
    if row == "vanilla" or not places or not all(a in plain and b in plain for a, b in places):
        return []
    seeds = sorted(set.intersection(*(set(plain[p].values) for pair in places for p in pair)))
    gains = {s: sum(plain[a].values[s] - plain[b].values[s] for a, b in places) for s in seeds}
    printed = printed_table(study.paper, study.table).number(row, "gain")
    ours = estimate(list(gains.values())) if gains else None
    return [Number(row, "gain", "gain", gains, ours, None, printed)]
