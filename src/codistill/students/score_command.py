"""`codistill evaluate RUN --data-dir OTHER`: scores, prints, and writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from codistill.console import score_table
from codistill.printable import json_text, printable
from codistill.reports.by_class import confused_pairs
from codistill.reports.one_folder import write_folder_page
from codistill.students.remarks import about_unreadable, progress_on, remarks_console
from codistill.students.scoring import FolderScores, evaluate_folder
from codistill.terminal import Console

__all__ = ["score_folder"]

WORST, PAIRS = 20, 10
"""Classes and pairs of classes that are printed."""


def score_folder(
    run_dir: Path,
    data_dir: Path,
    console: Console,
    *,
    checkpoint: str = "last",
    device: str | None = None,
    amp: str | None = None,
    as_json: bool = False,
    report: Path | None = None,
    follow_links: bool = False,
) -> None:
    """Score a run on another folder and print the outcome; remarks go to the standard error.

    Args:
        run_dir: the run directory.
        data_dir: the folder; see `evaluate_folder`, also for the next three and the errors.
        console: where to print.
        checkpoint: "last" or "selected".
        device: where to score.
        amp: the precision.
        as_json: print JSON.
        report: HTML file to write as well.
        follow_links: whether links that leave the folder are followed.
    """
    remarks = remarks_console()
    how: dict[str, Any] = {"checkpoint": checkpoint, "device": device, "amp": amp, "follow_links": follow_links}
    with progress_on(remarks) as watch:
        scores = evaluate_folder(run_dir, data_dir, **how, watch=watch)
    notes = [*scores.notes, *about_unreadable(scores.unreadable, scores.evaluation.images)]
    for note in notes:
        remarks.print(note)
    record, images = scores.evaluation.to_json(), scores.evaluation.images
    if as_json:
        more = {"folder": str(scores.folder), "classes": list(scores.classes)}
        more["unreadable"] = [{"picture": name, "error": error} for name, error in scores.unreadable]
        print(json_text(record | more))
    else:
        console.print(score_table(record, f"{scores.folder}, {checkpoint} weights, {images} images"))
        for table in _class_tables(scores):
            console.print(table)
    if report is not None:
        write_folder_page(report, str(run_dir), str(scores.folder), scores.evaluation, scores.classes, notes)
        (remarks if as_json else console).print(f"report: {report}", soft_wrap=True)


def _class_tables(scores: FolderScores) -> Sequence[Table]:
    """The classes with the highest errors, and the pairs that are confused most."""
    matrix, classes = scores.evaluation.confusion, [printable(name, lines=False) for name in scores.classes]
    if matrix is None:
        return []
    totals = [sum(row) for row in matrix]
    there = [label for label, total in enumerate(totals) if total]
    worst = sorted(there, key=lambda label: (matrix[label][label] / totals[label], label))[:WORST]
    errors = _table("class", "error %", "wrong", "pictures")
    for label in worst:
        wrong = totals[label] - matrix[label][label]
        errors.add_row(classes[label], f"{100 * wrong / totals[label]:.2f}", f"{wrong:,}", f"{totals[label]:,}")
    pairs = confused_pairs(matrix)[:PAIRS]
    if not pairs:
        return [errors]
    confusions = _table("true class", "taken for", "pictures", names=2)
    for images, true, named in pairs:
        confusions.add_row(classes[true], classes[named], f"{images:,}")
    return [errors, confusions]


def _table(*headings: str, names: int = 1) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < names else "right", overflow="fold")
    return table
