"""Reports: runs compared over their seeds, as a table, as CSV, and as one self-contained HTML page.

    runs = find_runs([Path("runs")])
    print(to_markdown(compare(runs)))
    write_report(runs, Path("report.html"))

Nothing here imports torch: a report starts fast and reads run directories from any machine.
"""

from __future__ import annotations

from codistill.reports.comparison import Comparison, Row, Table, compare
from codistill.reports.find import find_runs
from codistill.reports.page import renew_report, write_report
from codistill.reports.statistics import Estimate, Paired
from codistill.reports.tables import render_table, to_csv_rows, to_markdown
from codistill.reports.tidy import write_csv
from codistill.rundir import Run, read_run

__all__ = [
    "Comparison",
    "Estimate",
    "Paired",
    "Row",
    "Run",
    "Table",
    "compare",
    "find_runs",
    "read_run",
    "render_table",
    "renew_report",
    "to_csv_rows",
    "to_markdown",
    "write_csv",
    "write_report",
]
