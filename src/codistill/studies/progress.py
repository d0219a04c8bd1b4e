"""The live view of a study: what runs, how far it is, what is done, the time left."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from codistill.training import Config
from codistill.training.naming import default_label

__all__ = ["StudyProgress"]


class StudyProgress:
    """Reads the cells' metrics.jsonl, which their processes append to, and keeps the count.

    Args:
        configs: the cells, each with its own `out`.
        jobs: how many run at once.
    """

    def __init__(self, configs: Sequence[Config], jobs: int) -> None:
        self.configs, self.jobs = configs, jobs
        self.began = time.perf_counter()
        self.ended: set[int] = set()
        self.kept_work = 0.0
        # A network's epoch is the unit of work: a cell of four students costs four times a single one.
        self.work = [float(c.peers or 1) for c in configs]

    def finished(self, cell: int, error: str | None, kept: bool) -> str:
        """Count a cell as ended; the line to print about it."""
        self.ended.add(cell)
        if kept:
            self.kept_work += self.work[cell]
        name = f"[{len(self.ended)}/{len(self.configs)}] {_name(self.configs[cell])}"
        if error is not None:
            return f"{name}: [red]failed[/], see {self._out(cell) / 'log.txt'}"
        summary = json.loads((self._out(cell) / "summary.json").read_text(encoding="utf-8"))
        score = summary["last"]["test"][summary["headline"]]["top1_error"]
        state = "kept from an earlier call" if kept else f"{summary['seconds']['total']:.0f} s"
        return f"{name}: test error {score:.2f} %, {state}; {_clock(self._seconds_left())} left"

    def table(self) -> Table:
        """The running cells with epoch and validation error, and the time left."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("running", "epoch", "validation error %"):
            table.add_column(heading)
        for cell, config in enumerate(self.configs):
            epoch, record = self._last_record(cell)
            if cell not in self.ended and self._out(cell).is_dir() and self._running(cell):
                error = f"{record['validation']['mean']['top1_error']:.2f}" if record else ""
                table.add_row(_name(config), f"{epoch}/{config.epochs or '?'}", error)
        table.add_row(f"{len(self.ended)} of {len(self.configs)} done", f"{_clock(self._seconds_left())} left", "")
        return table

    def _running(self, cell: int) -> bool:
        return (self._out(cell) / "config.yaml").is_file() and not (self._out(cell) / "summary.json").is_file()

    def _share_done(self, cell: int) -> float:
        if cell in self.ended:
            return 1.0
        epoch, _ = self._last_record(cell)
        return epoch / (self.configs[cell].epochs or 1) if self._running(cell) else 0.0

    def _seconds_left(self) -> float | None:
        total = sum(self.work) - self.kept_work
        done = sum(w * self._share_done(c) for c, w in enumerate(self.work)) - self.kept_work
        elapsed = time.perf_counter() - self.began
        if len(self.ended) == len(self.configs):
            return 0.0
        return elapsed * (total - done) / done if done > 0 else None

    def _last_record(self, cell: int) -> tuple[int, dict[str, Any] | None]:
        path = self._out(cell) / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in reversed(lines):
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line that is being written
            return record["epoch"], record
        return 0, None

    def _out(self, cell: int) -> Path:
        out = self.configs[cell].out
        assert out is not None
        return out


def _name(config: Config) -> str:
    return f"{config.label or default_label(config)}, {' + '.join(config.model)}, seed {config.seed}"


def _clock(seconds: float | None) -> str:
    return "?:??" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
