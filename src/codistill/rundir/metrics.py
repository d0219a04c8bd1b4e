"""metrics.jsonl: one line per epoch, appended while the run trains."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from codistill.errors import UserError
from codistill.rundir.durable import append_line, write_bytes
from codistill.rundir.epoch import Epoch
from codistill.rundir.files import parse_record
from codistill.rundir.names import METRICS

__all__ = ["append_epoch", "keep_epochs", "last_epoch", "read_epochs"]


def append_epoch(run_dir: Path, epoch: Epoch) -> None:
    """Append one line, and make sure that it is on disk."""
    append_line(run_dir / METRICS, json.dumps(epoch.to_json()))


def keep_epochs(run_dir: Path, epochs: int) -> None:
    """Keep the first `epochs` epochs: a resumed run writes the later ones again.

    What is damaged is warned of and left out, since the run goes on from its checkpoint all the same.
    """
    path, kept, damaged = run_dir / METRICS, list[tuple[int, bytes]](), False
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            if line and (epoch := parse_record(str(path), path, line, Epoch).epoch) <= epochs:
                kept.append((epoch, line + b"\n"))
        except UserError:
            damaged = True
    write_bytes(path, b"".join(line for _, line in kept))
    missing = sorted(set(range(1, epochs + 1)) - {epoch for epoch, _ in kept})
    if missing:
        why = "is damaged" if damaged else "lacks epochs that are done"
        warnings.warn(
            f"{path} {why}: the figures of epoch {', '.join(map(str, missing))} are lost, and the run goes on without",
            stacklevel=3,
        )


def read_epochs(run_dir: Path, complete: bool) -> tuple[Epoch, ...]:
    """Return the epochs by number; if one is there twice, the later line counts.

    An epoch is there twice if a run was resumed from an older checkpoint. A last line without its end is still
    being written, or was cut off with the process: it is left out, unless the run is `complete`.

    Raises:
        UserError: a line is damaged or of a newer format.
    """
    path = run_dir / METRICS
    lines = path.read_bytes().split(b"\n")
    unended = lines.pop()
    if unended and complete:
        lines.append(unended)
    epochs = [parse_record(f"{path}, line {n},", path, line, Epoch) for n, line in enumerate(lines, 1) if line]
    by_number = {epoch.epoch: epoch for epoch in epochs}
    return tuple(by_number[number] for number in sorted(by_number))


def last_epoch(run_dir: Path) -> Epoch | None:
    """Return the epoch of the last complete line; None if there is none yet."""
    path = run_dir / METRICS
    if not path.is_file():
        return None
    lines = path.read_bytes().split(b"\n")[:-1]
    return parse_record(f"{path}, line {len(lines)},", path, lines[-1], Epoch) if lines else None
