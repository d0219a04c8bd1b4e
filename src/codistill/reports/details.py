"""The tables below the pictures: students' scores, settings, where the numbers come from, how to repeat them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codistill.reports.comparison import Row, Table
from codistill.reports.numbers import MISSING, count, number
from codistill.reports.settings import differing, settings_of
from codistill.rundir import CONFIG, Run, Score, Summary

__all__ = ["Grid", "GridCell", "commands", "common_settings", "peer_grid", "runs_grid", "settings_grid", "versions_of"]


@dataclass(frozen=True)
class GridCell:
    """A text; `marked` where it differs from most of its column."""

    text: str
    marked: bool = False


@dataclass(frozen=True)
class Grid:
    """A plain table; the first `names` columns are text, the others numbers."""

    headings: list[str]
    lines: list[list[GridCell]]
    names: int = 1


def _cells(texts: Iterable[str]) -> list[GridCell]:
    return [GridCell(text) for text in texts]


def peer_grid(row: Row) -> Grid:
    """Return test scores of every student, their mean and the ensembles, for each finished seed of a row."""
    headings = [
        "Seed", "Scored", "Network", "Top-1 error, %", "Top-5 error, %", "NLL, nats", "ECE, %",
        "Top-1 error, selected epoch, %",
    ]  # fmt: skip
    lines: list[list[GridCell]] = []
    for summary in row.summaries:
        for who, network, last, selected in _scored(summary):
            numbers = (last.top1_error, last.top5_error, last.nll, last.ece, selected.top1_error)
            digits = (2, 2, 3, 2, 2)
            shown = [number(value, d) for value, d in zip(numbers, digits, strict=True)]
            lines.append(_cells([str(summary.seed), who, network, *shown]))
    return Grid(headings, lines, names=3)


def _scored(summary: Summary) -> list[tuple[str, str, Score, Score]]:
    last, selected = summary.last.test, summary.selected.test
    scored = []
    for p, (score, other) in enumerate(zip(last.peers, selected.peers, strict=True)):
        who = f"student {p}" + (f", {summary.leader.rule}" if p == summary.leader.peer else "")
        network = summary.models[p if len(summary.models) == len(last.peers) else 0]
        scored.append((who, network, score, other))
    if len(last.peers) > 1:
        scored += [
            ("mean of students", "", last.mean, selected.mean),
            ("ensemble of softmax outputs", "", last.ensemble, selected.ensemble),
            ("ensemble of logits", "", last.ensemble_logits, selected.ensemble_logits),
        ]
        if last.ensemble_own and selected.ensemble_own:
            scored.append(("ensemble of the method", "", last.ensemble_own, selected.ensemble_own))
    return scored


def settings_grid(rows: Sequence[Row]) -> Grid | None:
    """Return the settings that are not the same in all runs, one line per row; unusual values are marked."""
    names = differing([settings_of(run) for row in rows for run in row.runs])
    if not names:
        return None
    texts = [[_of_row(row, name) for name in names] for row in rows]
    usual = [Counter(column).most_common(1)[0] for column in zip(*texts, strict=True)]
    lines = [
        [GridCell(row.name)]
        + [
            GridCell(text, marked=2 * times > len(rows) and text != most)
            for text, (most, times) in zip(line, usual, strict=True)
        ]
        for row, line in zip(rows, texts, strict=True)
    ]
    return Grid(["Row", *names], lines, names=1 + len(names))


def _of_row(row: Row, name: str) -> str:
    return " / ".join(dict.fromkeys(settings_of(run).get(name, MISSING) for run in row.runs))


def common_settings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the settings that all runs share, by name."""
    settings = [settings_of(run) for row in rows for run in row.runs]
    differ = set(differing(settings))
    return [(name, text) for name, text in settings[0].items() if name not in differ]


def runs_grid(table: Table) -> Grid:
    """Return one line per run: its folder, hash of its settings, seed, epochs, parameters, time and memory."""
    headings = [
        "Method", "Run", "Settings, SHA-256", "Seed", "Last epoch", "Selected epoch", "Parameters in training",
        "Training, s", "Total, s", "Peak memory, MB",
    ]  # fmt: skip
    lines = [_cells([row.name, str(run.directory), *_run_texts(run)]) for row in table.rows for run in row.runs]
    return Grid(headings, lines, names=3)


def _run_texts(run: Run) -> list[str]:
    summary = run.summary
    if summary is None:
        seconds = number(sum(epoch.seconds for epoch in run.metrics), 1)
        return [MISSING, str(run.seed), f"{run.epochs_done}, unfinished", MISSING, MISSING, seconds, MISSING, MISSING]
    memory = summary.peak_memory
    return [
        summary.config_sha256[:12],
        str(summary.seed),
        str(summary.last.epoch),
        str(summary.selected.epoch),
        count(summary.parameters.training),
        number(summary.seconds.training, 1),
        number(summary.seconds.total, 1),
        MISSING if memory is None else number(memory / 1e6, 0),
    ]


def versions_of(table: Table) -> list[tuple[str, str]]:
    """Return the machine and the version of each package; every value where the runs differ."""
    found: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for summary in row.summaries:
            for name, value in [*summary.machine.to_json().items(), *summary.versions.items()]:
                found.setdefault(name, {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in found.items()]


def commands(table: Table) -> str:
    """Return the commands that repeat every run and write the report of the repeated runs.

    No command can name data that came from Python; for such a run there is a comment instead.
    """
    runs = [run for row in table.rows for run in row.runs]
    names = [run.directory.name for run in runs]
    lines = []
    for i, run in enumerate(runs):
        name = names[i] if names.count(names[i]) == 1 else f"{i:02d}-{names[i]}"
        config, out = shlex.quote(str(run.directory / CONFIG)), shlex.quote(f"repeated/{name}")
        if run.on_own_data:
            lines.append(f"# {run.directory}: trained on data from Python; give train(...) the same dataset=")
        else:
            lines.append(f"codistill train --config {config} --out {out}")
    return "\n".join([*lines, "codistill report repeated"])
