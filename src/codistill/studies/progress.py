"""The live view of a study: which runs are training and how far they are, what is done, and the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from codistill.config import default_label
from codistill.rundir import CONFIG, LOG, SUMMARY, Summary, is_complete, last_epoch, read_record
from codistill.studies.one_run import EndedRun
from codistill.terminal import styled
from codistill.training import Config

__all__ = ["StudyProgress"]


class StudyProgress:
    """Keeps the count of the runs, and reads the metrics that their processes write.

    Args:
        configs: the runs, each with its own `out`; methods take the index of a run in this list.
    """

    def __init__(self, configs: Sequence[Config]) -> None:
        self.configs = configs
        self.began = time.perf_counter()
        self.ended: set[int] = set()
        self.kept_work = 0.0
        # The unit of work is one network's epoch: a run of four students costs four times that of one.
        self.work = [float(c.peers or 1) for c in configs]

    def finished(self, index: int, ended: EndedRun) -> Text:
        """Count a run as ended; return the line to print about it."""
        self.ended.add(index)
        if ended.kept:
            self.kept_work += self.work[index]
        name = f"[{len(self.ended)}/{len(self.configs)}] {_name(self.configs[index])}"
        if ended.elsewhere:
            return styled(f"{name}: {ended.reason}")
        if ended.error is not None:
            return styled(f"{name}: ", ("failed", "red"), f", see {self._out(index) / LOG}: {ended.reason}")
        summary = read_record(self._out(index) / SUMMARY, Summary)
        error_rate = summary.last.test.score(summary.headline).top1_error
        state = "finished by an earlier call" if ended.kept else f"{summary.seconds.total:.0f} s"
        left = self._seconds_left()
        then = "" if left is None else f"; {_clock(left)} left"
        return styled(f"{name}: test error {error_rate:.2f} %, {state}{then}")

    def table(self, note: str = "") -> Table:
        """Return the runs in progress with epoch and validation error, the time left, and the note if there is one."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("running", "epoch", "validation error %"):
            table.add_column(heading)
        for index, config in enumerate(self.configs):
            if index not in self.ended and self._running(index):
                epoch = last_epoch(self._out(index))
                error = f"{epoch.validation.mean.top1_error:.2f}" if epoch else ""
                table.add_row(_name(config), f"{epoch.epoch if epoch else 0}/{config.epochs or '?'}", error)
        table.add_row(f"{len(self.ended)} of {len(self.configs)} done", f"{_clock(self._seconds_left())} left", "")
        if note:
            table.add_row(note, "", "")
        return table

    def _running(self, index: int) -> bool:
        return (self._out(index) / CONFIG).is_file() and not is_complete(self._out(index))

    def _share_done(self, index: int) -> float:
        if index in self.ended:
            return 1.0
        epoch = last_epoch(self._out(index)) if self._running(index) else None
        return epoch.epoch / (self.configs[index].epochs or 1) if epoch else 0.0

    def _seconds_left(self) -> float | None:
        total = sum(self.work) - self.kept_work
        done = sum(work * self._share_done(index) for index, work in enumerate(self.work)) - self.kept_work
        elapsed = time.perf_counter() - self.began
        if len(self.ended) == len(self.configs):
            return 0.0
        return elapsed * (total - done) / done if done > 0 else None

    def _out(self, index: int) -> Path:
        out = self.configs[index].out
        assert out is not None
        return out


def _name(config: Config) -> str:
    return f"{config.label or default_label(config)}, {' + '.join(config.model)}, seed {config.seed}"


def _clock(seconds: float | None) -> str:
    return "?:??" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
