"""What stands below the pictures: peers' scores, settings, where the numbers come from, how to repeat them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codistill.reports.comparison import Row, Table
from codistill.reports.numbers import MISSING, count, number
from codistill.reports.records import Score, Summary
from codistill.reports.run import Run
from codistill.reports.settings import differing, settings_of

__all__ = ["Grid", "GridCell", "commands", "common_settings", "peer_grid", "runs_grid", "settings_grid", "versions_of"]


@dataclass(frozen=True)
class GridCell:
    """A text; `marked` where it stands out from the others of its column."""

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
        who = f"peer {p}" + (f", {summary.leader_rule}" if p == summary.leader_peer else "")
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
    """Return the settings that are not the same in all runs, a line a row; what departs from most rows is marked."""
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
    apart = set(differing(settings))
    return [(name, text) for name, text in settings[0].items() if name not in apart]


def runs_grid(table: Table) -> Grid:
    """Return a line a run: where it lies, its seed, epochs, parameters, time, memory, and what its settings hash to."""
    headings = [
        "Method", "Run", "Settings, SHA-256", "Seed", "Last epoch", "Selected epoch", "Parameters in training",
        "Training, s", "In all, s", "Peak memory, MB",
    ]  # fmt: skip
    lines = [_cells([row.name, str(run.directory), *_run_facts(run)]) for row in table.rows for run in row.runs]
    return Grid(headings, lines, names=3)


def _run_facts(run: Run) -> list[str]:
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
        count(summary.parameters.get("training")),
        number(summary.seconds.get("training"), 1),
        number(summary.seconds.get("total"), 1),
        MISSING if memory is None else number(memory / 1e6, 0),
    ]


def versions_of(table: Table) -> list[tuple[str, str]]:
    """Return what the runs ran on and each package with its version, all of them where the runs differ."""
    found: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for summary in row.summaries:
            for name, fact in [*summary.machine.items(), *summary.versions.items()]:
                found.setdefault(name, {})[str(fact)] = None
    return [(name, ", ".join(facts)) for name, facts in found.items()]


def commands(table: Table) -> str:
    """Return the commands that repeat every run and make the report of the repeated runs.

    Of a run on data from Python, which no command can name, it says so in a comment.
    """
    runs = [run for row in table.rows for run in row.runs]
    names = [run.directory.name for run in runs]
    lines = []
    for i, run in enumerate(runs):
        name = names[i] if names.count(names[i]) == 1 else f"{i:02d}-{names[i]}"
        config, out = shlex.quote(str(run.directory / "config.yaml")), shlex.quote(f"repeated/{name}")
        if run.on_own_data:
            lines.append(f"# {run.directory}: trained on data from Python; give train(...) the same dataset=")
        else:
            lines.append(f"codistill train --config {config} --out {out}")
    return "\n".join([*lines, "codistill report repeated"])
