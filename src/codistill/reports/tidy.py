"""Everything that the report plots, as tidy CSV files: one observation per line, unrounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codistill.errors import UserError
from codistill.reports.comparison import Comparison, Row, compare
from codistill.reports.csv_text import csv_text
from codistill.reports.tables import CsvValue, to_csv_rows
from codistill.rundir import Run, write_whole

__all__ = ["write_csv"]

Record = dict[str, CsvValue]


def write_csv(runs: Sequence[Run] | Comparison, out_dir: Path) -> list[Path]:
    """Write comparison, peers, epochs, loss_parts, attention and reliability `.csv`; a file without data is left out.

    Errors and ECE are in percent, losses in nats, times in seconds. Every line names its data set, row and seed.

    Returns:
        The files written.

    Raises:
        UserError: `out_dir` is a file or cannot be written; see also `compare`.
    """
    out_dir = Path(out_dir)
    comparison = runs if isinstance(runs, Comparison) else compare(runs)
    files = {
        "comparison.csv": to_csv_rows(comparison),
        "peers.csv": list(_peers(comparison)),
        "epochs.csv": list(_epochs(comparison)),
        "loss_parts.csv": list(_loss_parts(comparison)),
        "attention.csv": list(_attention(comparison)),
        "reliability.csv": list(_reliability(comparison)),
    }
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, records in files.items():
            if records:
                write_whole(out_dir / name, csv_text(records))
    except OSError as error:
        raise UserError(
            f"{out_dir} cannot be written ({error.strerror}): the tables need a folder that you may write to; "
            "give another folder."
        ) from error
    return [out_dir / name for name, records in files.items() if records]


def _each(comparison: Comparison) -> Iterator[tuple[Row, Run, Record]]:
    for table in comparison.tables:
        heading: Record = {"heading": table.heading} if table.heading else {}
        for row in table.rows:
            for run in row.runs:
                yield row, run, {"data": table.data, **heading, "row": row.name, "seed": run.seed}


def _peers(comparison: Comparison) -> Iterator[Record]:
    for _, run, key in _each(comparison):
        for weights, outcome in (("last", run.summary.last), ("selected", run.summary.selected)) if run.summary else ():
            test = outcome.test
            members = [(f"peer {p}", score) for p, score in enumerate(test.peers)]
            members += [("mean", test.mean), ("leader", test.leader)]
            members += [("ensemble", test.ensemble), ("ensemble_logits", test.ensemble_logits)]
            members += [("ensemble_own", test.ensemble_own)] if test.ensemble_own else []
            for member, score in members:
                yield {**key, "weights": weights, "epoch": outcome.epoch, "member": member, **vars(score)}


def _epochs(comparison: Comparison) -> Iterator[Record]:
    for row, run, key in _each(comparison):
        for epoch in run.metrics:
            validation = epoch.validation
            yield {
                **key,
                "epoch": epoch.epoch,
                "lr": epoch.lr,
                "seconds": epoch.seconds,
                "train_loss_per_student": epoch.loss_per_student,
                "validation_error_headline": validation.score(row.headline or "mean").top1_error,
                "validation_error_leader": validation.leader.top1_error,
                "validation_error_mean": validation.mean.top1_error,
                "validation_error_ensemble": validation.ensemble.top1_error,
                "distance": validation.diversity and validation.diversity.distance,
                "disagreement_percent": validation.diversity and validation.diversity.disagreement,
            }


def _loss_parts(comparison: Comparison) -> Iterator[Record]:
    for _, run, key in _each(comparison):
        for epoch in run.metrics:
            for part, value in epoch.train.parts.items():
                yield {**key, "epoch": epoch.epoch, "part": part, "nats": value}


def _attention(comparison: Comparison) -> Iterator[Record]:
    for _, run, key in _each(comparison):
        if run.metrics and (matrix := run.metrics[-1].attention):
            for listener, weights in enumerate(matrix):
                for peer, weight in enumerate(weights):
                    place = {"epoch": run.epochs_done, "listener": listener, "listened_to": peer}
                    yield {**key, **place, "weight": weight}


def _reliability(comparison: Comparison) -> Iterator[Record]:
    for _, run, key in _each(comparison):
        for member, bins in run.summary.last.test.reliability.items() if run.summary else ():
            for i, shares in enumerate(zip(bins.count, bins.confidence, bins.accuracy, strict=True)):
                images, confidence, accuracy = shares
                place: Record = {"member": member, "bin": i, "images": images}
                yield {**key, **place, "confidence": confidence, "accuracy": accuracy}
