"""The comparison as a table for the terminal, for Markdown and for CSV; the HTML page uses the same columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from codistill.printable import printable
from codistill.reports.comparison import FEW_SEEDS, Comparison, Row, Table
from codistill.reports.numbers import MISSING, count, interval, mean_std, number, p_value
from codistill.reports.statistics import Estimate

__all__ = [
    "COLUMNS",
    "FEW_MARK",
    "Cell",
    "Column",
    "columns_for",
    "footnotes",
    "render_table",
    "to_csv_rows",
    "to_markdown",
]

CsvValue = str | int | float | None
FEW_MARK = "†"


@dataclass(frozen=True)
class Cell:
    """What a reader sees: the text, and a note in small print below it."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One column; `short` is its heading in a terminal, where a column without one is left out."""

    heading: str
    unit: str
    cell: Callable[[Row], Cell]
    short: str = ""
    numeric: bool = True

    @property
    def title(self) -> str:
        """Heading and unit in one line."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading


def _estimated(pick: Callable[[Row], Estimate | None]) -> Callable[[Row], Cell]:
    return lambda row: Cell(mean_std(pick(row)), interval(pick(row)))


def _seeds(row: Row) -> Cell:
    done, all_of_them = len(row.finished), len(row.runs)
    mark = f" {FEW_MARK}" if row.few_seeds else ""
    return Cell(f"{done}{mark}", "" if done == all_of_them else f"{all_of_them - done} unfinished")


def _whose(row: Row) -> Cell:
    if row.headline is None:
        return Cell(MISSING)
    if row.peers == 1:
        return Cell("network")
    return Cell("leader" if row.headline == "leader" else "mean")


def _variant(row: Row) -> Cell:
    networks = " + ".join(dict.fromkeys(row.models))
    group = next((f", {summary.group}" for summary in row.summaries), "")
    return Cell(row.name, f"{networks}, {row.peers} students{group}" if row.peers > 1 else networks)


def _difference(row: Row) -> Cell:
    if row.paired is None:
        return Cell(MISSING)
    gap = row.paired.difference
    shared = "" if gap.n == len(row.finished) else f"on {gap.n} of {len(row.finished)} seeds"
    return Cell(number(gap.mean, sign=True), ", ".join(filter(None, (interval(gap), shared))))


def _training(row: Row) -> Cell:
    note = f"{number(row.times_baseline, 1)} × baseline" if row.times_baseline else ""
    return Cell(number(row.seconds and row.seconds.mean, 1), note)


COLUMNS = (
    Column("Method", "", _variant, "Method", numeric=False),
    Column("Error of", "", _whose, "Of", numeric=False),
    Column("Error, last epoch", "%", _estimated(lambda row: row.error), "Error %"),
    Column("Error, selected epoch", "%", _estimated(lambda row: row.error_selected)),
    Column("Ensemble, last epoch", "%", _estimated(lambda row: row.ensemble), "Ensemble %"),
    Column("Ensemble, selected epoch", "%", _estimated(lambda row: row.ensemble_selected)),
    Column("Difference to baseline", "points", _difference, "Δ base"),
    Column("p, Holm", "", lambda row: Cell(p_value(row.p_holm)), "p"),
    Column("Effect size", "d_z", lambda row: Cell(number(row.paired and row.paired.effect, 1))),
    Column("Seeds", "", _seeds, "Seeds"),
    Column("Deployed parameters", "", lambda row: Cell(count(row.parameters)), "Params"),
    Column("Training", "s", _training, "s"),
)
"""In the order of a table; a caller that shows more adds its own."""


def columns_for(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> list[Column]:
    """Return the columns that at least one of the rows fills."""
    return [column for column in columns if any(column.cell(row).text != MISSING for row in rows)]


def footnotes(rows: Sequence[Row]) -> list[str]:
    """Return the notes below a table of these rows."""
    notes = []
    if any(row.error and row.error.std is not None for row in rows):
        notes.append("± is the standard deviation over seeds. Intervals are 95 % Student-t confidence intervals.")
    if any(row.paired for row in rows):
        notes.append(
            "The difference is taken seed by seed at the last epoch, to the baseline with the same networks, images "
            "and number of epochs. p is from the paired t-test, after Holm's correction for all rows of the table. "
            "d_z is the mean difference divided by the standard deviation of the differences."
        )
    if any(row.is_baseline for row in rows):
        alone = [row.name for row in rows if row.error and not row.paired and not row.is_baseline]
        if alone:
            which = "; ".join(alone) if len(alone) <= 3 else f"the {len(alone)} rows without a difference"
            notes.append(
                "Not compared, since no baseline has the same networks, images, number of epochs and a common seed: "
                f"{which}."
            )
    if any(row.few_seeds for row in rows):
        notes.append(f"{FEW_MARK} Fewer than {FEW_SEEDS} finished seeds: this row supports no conclusion.")
    return notes


def render_table(comparison: Comparison) -> Group:
    """Return the comparison for the terminal: a table for each data set, with its title above and its notes below."""
    return Group(*(block for table in comparison.tables for block in _rendered(table)))


def _rendered(table: Table) -> list[Text | RichTable]:
    columns = [column for column in columns_for(table.rows) if column.short]
    title = f"Top-1 test error on {table.data}, last epoch"
    seeds = {_seeds(row) for row in table.rows}
    if len(seeds) == 1 and not any(row.few_seeds for row in table.rows):
        # A terminal has 80 characters: what is the same in all rows goes into the title.
        title += f", {len(table.rows[0].finished)} seeds"
        columns = [column for column in columns if column.cell is not _seeds]
    sizes = {row.parameters for row in table.rows}
    if len(table.rows) > 1 and len(sizes) == 1 and None not in sizes:
        title += f", {count(table.rows[0].parameters)} parameters"
        columns = [column for column in columns if column.heading != "Deployed parameters"]
    rendered = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        fixed = column.numeric or column.cell is _whose
        rendered.add_column(column.short, justify="right" if column.numeric else "left", no_wrap=fixed, overflow="fold")
    for row in table.rows:
        # Text, so that a console of the caller's reads no markup in a label.
        rendered.add_row(*(Text(printable(column.cell(row).text)) for column in columns))
    return [Text(title, style="italic"), rendered, *(Text(note, style="dim") for note in footnotes(table.rows))]


def to_markdown(comparison: Comparison, columns: Sequence[Column] = COLUMNS) -> str:
    """Return one Markdown table per data set, each cell with its confidence interval, and the notes below."""
    blocks = []
    for table in comparison.tables:
        shown = columns_for(table.rows, columns)
        lines = [
            "| " + " | ".join(_escaped(column.title) for column in shown) + " |",
            "|" + "|".join("---:" if column.numeric else "---" for column in shown) + "|",
        ]
        for row in table.rows:
            cells = [column.cell(row) for column in shown]
            texts = [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in cells]
            lines.append("| " + " | ".join(map(_escaped, texts)) + " |")
        notes = "\n".join(f"{note}\n" for note in footnotes(table.rows))
        blocks.append(f"**Top-1 test error on {_escaped(table.data)}**\n\n" + "\n".join(lines) + f"\n\n{notes}")
    return "\n".join(blocks)


def _escaped(text: str) -> str:
    for mark in "\\|*_`<>[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def to_csv_rows(comparison: Comparison) -> list[dict[str, CsvValue]]:
    """Return one record per row of the comparison, with unrounded numbers; None where there is none."""
    return [_csv_row(table, row) for table in comparison.tables for row in table.rows]


def _csv_row(table: Table, row: Row) -> dict[str, CsvValue]:
    record: dict[str, CsvValue] = {
        "data": table.data,
        **({"heading": table.heading} if table.heading else {}),
        "row": row.name,
        "method": row.method,
        "networks": " + ".join(dict.fromkeys(row.models)),
        "students": row.peers,
        "deployed_parameters": row.parameters,
        "seeds": len(row.finished),
        "unfinished": len(row.runs) - len(row.finished),
        "headline": row.headline,
    }
    quantities = {
        "error_percent": row.error,
        "error_selected_percent": row.error_selected,
        "ensemble_percent": row.ensemble,
        "ensemble_selected_percent": row.ensemble_selected,
        "training_seconds": row.seconds,
        "difference_points": row.paired and row.paired.difference,
    }
    for name, estimate in quantities.items():
        for statistic in ("mean", "std", "low", "high"):
            record[f"{name}_{statistic}"] = estimate and getattr(estimate, statistic)
    record |= {
        "baseline": row.baseline,
        "pairs": row.paired and row.paired.difference.n,
        "p": row.paired and row.paired.p,
        "p_holm": row.p_holm,
        "effect_dz": row.paired and row.paired.effect,
    }
    return record
