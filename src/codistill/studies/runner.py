"""Runs a study's cells in worker processes: finished ones are kept, interrupted ones resumed, failed ones told."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from codistill.reports.settings import HOW_IT_RUNS
from codistill.studies.plan import Cell
from codistill.studies.progress import StudyProgress
from codistill.training import AugmentConfig, Config, read_config, resume, train
from codistill.training.check import check_config
from codistill.training.checkpoint import latest
from codistill.training.configfile import config_digest

__all__ = ["CellResult", "run_cells"]

POLL = 0.5
"""Seconds between two looks at the cells' progress."""

DEATHS = 2
"""How often a worker process may be killed in a cell (by the system, for its memory) before the cell has failed."""


@dataclass(frozen=True)
class CellResult:
    """How one cell ended.

    Attributes:
        run_dir: its run directory.
        error: None, or the traceback of what stopped it (also in its log.txt).
        kept: whether it had been finished by an earlier call.
    """

    run_dir: Path
    error: str | None = None
    kept: bool = False


def run_cells(
    cells: Sequence[Cell | Config], jobs: int, console: Console, devices: Sequence[str] = ()
) -> list[CellResult]:
    """Run every cell, `jobs` at a time, and show what runs, what is done and the time left.

    A cell whose run directory holds its finished run is not run again; one that was interrupted goes on from its last
    whole epoch; one that fails does not stop the others, only those that learn from it.

    Args:
        cells: what to run, each with its own `out`; a bare configuration waits for no other.
        jobs: worker processes; each keeps to the cell's `threads`.
        console: where progress is shown.
        devices: handed out to the running cells in turn, instead of the device in their configuration.

    Returns:
        The results in the order of `cells`.
    """
    return _Runner([c if isinstance(c, Cell) else Cell(c) for c in cells], jobs, console, devices).run()


@dataclass
class _Worker:
    """A pool of one process, which takes no other cell with it where it is killed, and the device that it runs on."""

    device: str | None
    pool: ProcessPoolExecutor


class _Runner:
    def __init__(self, cells: list[Cell], jobs: int, console: Console, devices: Sequence[str]) -> None:
        self.cells, self.console = cells, console
        self.progress = StudyProgress([cell.config for cell in cells], jobs)
        self.workers = [_Worker(devices[i % len(devices)] if devices else None, _new_pool()) for i in range(jobs)]
        self.free = list(self.workers)
        self.waiting = list(range(len(cells)))
        self.running: dict[Future[CellResult], tuple[int, _Worker]] = {}
        self.results: dict[int, CellResult] = {}
        self.deaths = [0] * len(cells)

    def run(self) -> list[CellResult]:
        """Run all cells."""
        try:
            with Live(console=self.console, auto_refresh=False, transient=True) as live:
                while self.waiting or self.running:
                    self._submit()
                    done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._end(future)
                    live.update(self.progress.table(), refresh=self.console.is_terminal)
        finally:
            for worker in self.workers:
                worker.pool.shutdown(cancel_futures=True)
        return [self.results[cell] for cell in range(len(self.cells))]

    def _submit(self) -> None:
        """Start the cells whose teachers are there, as long as a worker is free; drop those whose teacher failed."""
        for cell in list(self.waiting):
            needs = [self.results.get(teacher) for teacher in self.cells[cell].after]
            if any(need is not None and need.error for need in needs):
                self.waiting.remove(cell)
                failed = self.cells[self.cells[cell].after[0]].config.out
                self._keep(cell, CellResult(self._out(cell), f"not begun: its teacher {failed} failed"))
            elif all(needs) and self.free:
                self.waiting.remove(cell)
                worker = self.free.pop(0)
                self.running[self._start(cell, worker)] = (cell, worker)

    def _start(self, cell: int, worker: _Worker) -> Future[CellResult]:
        try:
            return worker.pool.submit(_run_cell, self.cells[cell].config, worker.device)
        except BrokenProcessPool:
            worker.pool = _new_pool()
            return worker.pool.submit(_run_cell, self.cells[cell].config, worker.device)

    def _end(self, future: Future[CellResult]) -> None:
        cell, worker = self.running.pop(future)
        self.free.append(worker)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._revive(cell)
        else:
            self._keep(cell, CellResult(self._out(cell), str(error)) if error else future.result())

    def _revive(self, cell: int) -> None:
        """Its worker was killed: the cell goes on in a new one, a few times at most."""
        self.deaths[cell] += 1
        if self.deaths[cell] > DEATHS:
            self._keep(cell, CellResult(self._out(cell), "its process was killed; the memory may be too small"))
        else:
            self.waiting.insert(0, cell)

    def _keep(self, cell: int, result: CellResult) -> None:
        self.results[cell] = result
        log = result.run_dir / "log.txt"
        if result.error is not None:
            result.run_dir.mkdir(parents=True, exist_ok=True)
            log.write_text(result.error, encoding="utf-8")
        else:
            log.unlink(missing_ok=True)
        self.console.print(self.progress.finished(cell, result.error, result.kept), highlight=False, soft_wrap=True)

    def _out(self, cell: int) -> Path:
        out = self.cells[cell].config.out
        assert out is not None
        return out


def _new_pool() -> ProcessPoolExecutor:
    # Workers are spawned, since a forked child inherits torch's thread pools in an unusable state.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let a killed study leave no process behind, which would write into the run that the next call goes on with."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_cell(config: Config, device: str | None) -> CellResult:
    assert config.out is not None
    out, started = config.out, time.perf_counter()
    try:
        begun = (out / "config.yaml").is_file() and latest(out) is not None
        if begun and _same(read_config(out / "config.yaml"), config):
            kept = (out / "summary.json").is_file()
            resume(out)
            return CellResult(out, kept=kept)
        train(dataclasses.replace(config, device=device) if device else config, overwrite=True)
        return CellResult(out)
    except Exception:
        text = f"after {time.perf_counter() - started:.1f} s\n{traceback.format_exc()}"
        return CellResult(out, error=text)


def _same(found: Config, wanted: Config) -> bool:
    """Whether a run directory has the wanted configuration, defaults filled in, on whichever device and executor."""
    wanted = check_config(wanted)
    filled = {
        "epochs": wanted.epochs or found.epochs,
        "augment": AugmentConfig(
            **{
                name: getattr(found.augment, name) if value is None else value
                for name, value in vars(wanted.augment).items()
            }
        ),
        **{name: getattr(found, name) for name in HOW_IT_RUNS},
        "amp": found.amp if wanted.device != found.device else wanted.amp,
        # A study's folder may have moved: a teacher's own folder name says what it is.
        "teachers": tuple(Path(teacher).name for teacher in wanted.teachers),
    }
    found = dataclasses.replace(found, teachers=tuple(Path(teacher).name for teacher in found.teachers))
    return config_digest(found) == config_digest(dataclasses.replace(wanted, **filled))
