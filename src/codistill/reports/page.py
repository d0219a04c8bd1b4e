"""One self-contained HTML page of a comparison: it loads nothing from elsewhere and needs no JavaScript."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from codistill.errors import UserError
from codistill.printable import printable
from codistill.reports import details
from codistill.reports.comparison import Comparison, Row, Table, compare
from codistill.reports.numbers import count, number
from codistill.reports.one_run import heading_of, only_run, prefaces_of
from codistill.reports.preface import Preface
from codistill.reports.statistics import SIGNIFICANT
from codistill.reports.tables import Cell, Column, columns_for, footnotes
from codistill.rundir import Run, write_whole

if TYPE_CHECKING:
    from codistill.reports.sections import Section

__all__ = ["TablePage", "render_page", "renew_report", "write_page", "write_prefaces", "write_report"]


PROTOCOL = (
    "The main result is the test error with the weights of the last epoch. The epoch with the lowest validation "
    "error is shown next to it and never replaces it. The test set was read once, after training: nothing was selected "
    "on it, and every seed is counted."
)


@dataclass(frozen=True)
class TablePage:
    """Everything that the page shows of the runs on one data set. Empty fields are left out."""

    table: Table
    prefix: str
    overview: list[tuple[str, str]]
    unfinished: list[str]
    concerns: list[str]
    finding: str
    columns: list[Column]
    lines: list[list[Cell]]
    footnotes: list[str]
    sections: list[Section]
    peers: list[tuple[str, details.Grid]]
    differing: details.Grid | None
    common: list[tuple[str, str]]
    runs: details.Grid
    versions: list[tuple[str, str]]
    commands: str


def write_report(runs: Sequence[Run], out: Path, title: str | None = None) -> Path:
    """Write the report of `runs` to `out`, whole or not at all; missing folders are created.

    Args:
        runs: finished or not; see `compare` for how they are grouped.
        out: the HTML file; an earlier one is replaced.
        title: heading of the page; made from the rows and the data set if left out.

    Returns:
        `out`.

    Raises:
        UserError: `out` is a folder or cannot be written; see also `compare`.
    """
    out = Path(out)
    _refuse_folder(out)
    return write_page(compare(runs), out, title)


def renew_report(runs: Sequence[Run], out: Path) -> Path:
    """As `write_report`; but a report that is there and cannot be replaced stays, and a warning says so.

    A finished run may lie where nothing can be written.
    """
    try:
        return write_report(runs, out)
    except UserError as error:
        if not isinstance(error.__cause__, OSError) or not out.is_file():
            raise
        warnings.warn(f"{out} cannot be written ({error.__cause__.strerror}): it stays as it was", stacklevel=2)
        return out


def write_page(comparison: Comparison, out: Path, title: str | None = None, prefaces: Sequence[Preface] = ()) -> Path:
    """Write the page of a comparison, with the `prefaces` before its tables; otherwise as `write_report`."""
    return _write(out, render_page(comparison, title, prefaces))


def write_prefaces(out: Path, title: str, prefaces: Sequence[Preface]) -> Path:
    """Write a page of nothing but these sections; otherwise as `write_report`."""
    _refuse_folder(out)
    return _write(out, _rendered(title=title, pages=[], several=False, prefaces=prefaces, single=True, protocol=""))


def _refuse_folder(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"{out} is a folder: the report is one file; give a name such as {out / 'report.html'}.")


def _write(out: Path, page: str) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}): the report needs a folder that you may write to; "
            "give another file."
        ) from error
    return out


def render_page(comparison: Comparison, title: str | None = None, prefaces: Sequence[Preface] = ()) -> str:
    """Return the page as text; the same runs give the same text."""
    several = len(comparison.tables) > 1
    pages = [_table_page(table, f"t{i}-" if several else "") for i, table in enumerate(comparison.tables)]
    heading = title or _title(comparison.rows, [table.data for table in comparison.tables])
    run = None if prefaces else only_run(comparison)
    if run is not None:
        heading, prefaces = title or heading_of(run), prefaces_of(run)
    return _rendered(
        title=heading, pages=pages, several=several, prefaces=prefaces, single=run is not None, protocol=PROTOCOL
    )


def _rendered(**values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codistill.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters["drawing"] = Markup
    return environment.get_template("report.html").render(**values)


def _shown(value: Any) -> Any:
    # Drawings and what macros return are escaped already.
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _table_page(table: Table, prefix: str) -> TablePage:
    # Matplotlib takes half a second to load; a table in the terminal should not wait for it.
    from codistill.reports.sections import sections_of

    columns = columns_for(table.rows)
    return TablePage(
        table=table,
        prefix=prefix,
        overview=_overview(table),
        unfinished=[_unfinished(row, run) for row in table.rows for run in row.runs if not run.finished],
        concerns=[line for row in table.rows for run in row.runs for line in _concerns(row, run)],
        finding=_finding(table),
        columns=columns,
        lines=[[column.cell(row) for column in columns] for row in table.rows],
        footnotes=footnotes(table.rows),
        sections=sections_of(table, prefix),
        peers=[(row.name, details.peer_grid(row)) for row in table.rows if row.finished],
        differing=details.settings_grid(table.rows),
        common=details.common_settings(table.rows),
        runs=details.runs_grid(table),
        versions=details.versions_of(table),
        commands=details.commands(table),
    )


def _title(rows: Sequence[Row], data: Sequence[str]) -> str:
    what = rows[0].label if len(rows) == 1 else f"{len(rows)} variants compared"
    return f"{what} on {' and '.join(data)}"


def _unfinished(row: Row, run: Run) -> str:
    planned = run.config.get("epochs")
    of = f" of {planned}" if isinstance(planned, int) else ""
    return f"{row.name}, seed {run.seed}: {run.epochs_done}{of} epochs"


def _concerns(row: Row, run: Run) -> list[str]:
    return [f"{row.name}, seed {run.seed}, epoch {e.epoch}: {text}." for e in run.metrics for text in e.concerns]


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _overview(table: Table) -> list[tuple[str, str]]:
    runs = [run for row in table.rows for run in row.runs]
    summaries = [summary for row in table.rows for summary in row.summaries]
    networks = dict.fromkeys(model for row in table.rows for model in row.models)
    overview = [("Data", table.data), ("Network" if len(networks) == 1 else "Networks", ", ".join(networks))]
    if summaries:
        images = [s.images for s in summaries]
        sizes = (
            f"{_range([i.train for i in images])} training",
            f"{_range([i.validation for i in images])} validation",
            f"{_range([i.test for i in images])} test",
        )
        overview.append(("Images", ", ".join(sizes)))
    overview.append(("Epochs", _range([s.epochs for s in summaries] or [run.epochs_done for run in runs])))
    per_row = _range([len(row.runs) for row in table.rows])
    overview.append(("Seeds per row", per_row))
    if summaries:
        overview.append(("Training", f"{number(sum(s.seconds.training for s in summaries), 0)} s in total"))
    return overview


def _finding(table: Table) -> str:
    tested = [row for row in table.rows if row.paired and row.p_holm is not None and not row.few_seeds]
    if not tested:
        return ""
    test = f"at p < {SIGNIFICANT} after Holm’s correction, paired by seed"
    gaps = [
        f"{row.name} ({number(row.paired.difference.mean, sign=True)} points)"
        for row in tested
        if row.paired and row.p_holm is not None and row.p_holm < SIGNIFICANT
    ]
    if not gaps:
        return f"No row differs from its baseline {test} ({len(tested)} tested)."
    return f"Different from their baseline {test} ({len(gaps)} of {len(tested)} tested): {'; '.join(gaps)}."
