"""The numbers in the papers' tables, which are shipped with the package (papers.yaml)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from codistill.rundir import parse_yaml

__all__ = ["Printed", "PrintedTable", "pair_name", "pairs", "printed_table", "reference"]


@dataclass(frozen=True)
class Printed:
    """A number as printed: percent (millions for parameters), `std` where the paper gives one."""

    value: float
    std: float | None = None


@dataclass(frozen=True)
class PrintedTable:
    """One table: `cells[row, column]`; a line of KDCL's table 4 is named "MODEL1 + MODEL2, METHOD"."""

    title: str
    metric: str
    dataset: str
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], Printed]

    def number(self, row: str, column: str) -> Printed | None:
        """Return the number of a cell; None where the paper prints none."""
        return self.cells.get((row, column))


def printed_table(paper: str, table: str) -> PrintedTable:
    """Return a table of "okddip" or "kdcl" as printed; KeyError where there is none."""
    record = _papers()[paper][table]
    columns = tuple(str(column) for column in record.get("columns", ()))
    cells = {}
    for row, values in _rows(record.get("rows", {})):
        for column, value in zip(columns, values, strict=True):
            # A bool is a check mark, a str names a network or a rule: neither is a measurement.
            if isinstance(value, list):
                cells[row, column] = Printed(*map(float, value))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                cells[row, column] = Printed(float(value))
    return PrintedTable(record["title"], record["metric"], record["dataset"], columns, cells)


def reference(paper: str) -> str:
    """Return how the paper is cited."""
    return _papers()[paper]["reference"]


def pairs() -> list[list[Any]]:
    """Return the lines of KDCL's table 4: model 1, accuracy, model 2, accuracy, method."""
    return _papers()["kdcl"]["table4"]["rows"]


def pair_name(line: list[Any]) -> str:
    """Return the name of a line of KDCL's table 4."""
    first, _, second, _, method = line
    return f"{first} + {second}, {method}"


def _rows(rows: Any) -> list[tuple[str, list[Any]]]:
    return list(rows.items()) if isinstance(rows, dict) else [(pair_name(line), line) for line in rows]


@functools.cache
def _papers() -> dict[str, Any]:
    return parse_yaml((files("codistill.studies") / "papers.yaml").read_text(encoding="utf-8"))
