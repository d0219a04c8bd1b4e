"""Predictions as a table, as JSON and as CSV (docs/predict.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from codistill.printable import json_text, printable
from codistill.students.classify import Prediction
from codistill.students.student import Student

__all__ = ["as_csv", "as_json", "as_table"]

VERSION = 1
"""Of the JSON format."""


def as_json(student: Student, predictions: Sequence[Prediction]) -> str:
    """Return all predictions, and the pictures that could not be read, as one JSON record."""
    record = {
        "version": VERSION,
        "student": str(student.source),
        "classes": list(student.classes),
        "predictions": [
            {"picture": one.picture, "classes": list(one.classes), "probabilities": list(one.probabilities)}
            for one in predictions
            if one.error is None
        ],
        "unreadable": [{"picture": one.picture, "error": one.error} for one in predictions if one.error is not None],
    }
    return json_text(record) + "\n"


def as_csv(predictions: Sequence[Prediction]) -> str:
    """Return one line per picture that could be read, after a line of headings."""
    read = [one for one in predictions if one.error is None]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(1, len(read[0].classes) + 1)
    writer.writerow(["picture", *(f"{name}_{place}" for place in places for name in ("class", "probability"))])
    for one in read:
        pairs = zip(map(printable, one.classes), one.probabilities, strict=True)
        writer.writerow([printable(one.picture), *(value for name, share in pairs for value in (name, f"{share:.6g}"))])
    return text.getvalue()


def as_table(predictions: Sequence[Prediction]) -> Table:
    """Return one row per picture that could be read: its class, and those that come next."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("picture", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("%", justify="right")
    table.add_column("next", overflow="fold")
    for one in predictions:
        if one.error is None:
            classes = [printable(name, lines=False) for name in one.classes]
            first, *others = zip(classes, one.probabilities, strict=True)
            named = ", ".join(f"{name} {100 * share:.1f}" for name, share in others)
            table.add_row(printable(one.picture, lines=False), first[0], f"{100 * first[1]:.1f}", named)
    return table
