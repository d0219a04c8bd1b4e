"""Runs of a study in worker processes: finished ones are kept, interrupted ones resumed, failed ones reported."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.live import Live

from codistill.reports.settings import SAME_EXPERIMENT, flatten
from codistill.rundir import CONFIG, LOG, is_complete
from codistill.studies.progress import StudyProgress
from codistill.studies.run_list import PlannedRun
from codistill.terminal import Console
from codistill.training import Config, config_to_dict, read_config, resume, train
from codistill.training.check import check_config, is_here
from codistill.training.checkpoint import latest
from codistill.training.paths import with_absolute_paths

__all__ = ["EndedRun", "run_all", "same_run"]

POLL = 0.5
"""Seconds between two updates of the display."""

GRACE = 10.0
"""Seconds for workers to end by themselves after an interruption."""

DEATHS = 2
"""How often the process of a run may be killed (by the system, for its memory) before the run has failed."""


@dataclass(frozen=True)
class EndedRun:
    """How one run ended.

    Attributes:
        run_dir: its run directory.
        error: None, or the traceback of what stopped it (also in its log.txt).
        kept: whether an earlier call had finished it.
    """

    run_dir: Path
    error: str | None = None
    kept: bool = False


def run_all(
    runs: Sequence[PlannedRun | Config],
    jobs: int,
    console: Console,
    devices: Sequence[str] = (),
    on_end: Callable[[], None] | None = None,
) -> list[EndedRun]:
    """Train every run, `jobs` at a time, and show which are running, which are done and the time left.

    A finished run is not trained again. An interrupted one goes on from its last checkpoint. A failed one stops only
    the runs that learn from it.

    Args:
        runs: each with its own `out`; a bare configuration waits for no other run.
        jobs: worker processes; each uses the `threads` of its run.
        console: where progress is shown.
        devices: used by the workers in turn, instead of the device in the configuration.
        on_end: called whenever runs have ended, after the next ones were started.

    Returns:
        The results in the order of `runs`.
    """
    planned = [r if isinstance(r, PlannedRun) else PlannedRun(r) for r in runs]
    return _Runner(planned, jobs, console, devices).run(on_end)


@dataclass
class _Worker:
    """A pool of one process, so that a killed process stops no other run, and its device."""

    device: str | None
    pool: ProcessPoolExecutor


class _Runner:
    """Runs are known by their index in `runs`."""

    def __init__(self, runs: list[PlannedRun], jobs: int, console: Console, devices: Sequence[str]) -> None:
        self.runs, self.console = runs, console
        self.progress = StudyProgress([run.config for run in runs], jobs)
        self.workers = [_Worker(devices[i % len(devices)] if devices else None, _new_pool()) for i in range(jobs)]
        self.free = list(self.workers)
        self.waiting = list(range(len(runs)))
        self.running: dict[Future[EndedRun], tuple[int, _Worker]] = {}
        self.ended: dict[int, EndedRun] = {}
        self.deaths = [0] * len(runs)

    def run(self, on_end: Callable[[], None] | None = None) -> list[EndedRun]:
        """Train all runs."""
        told, others = 0, set(multiprocessing.active_children())
        try:
            with Live(console=self.console, auto_refresh=False, transient=True) as live:
                while self.waiting or self.running:
                    self._submit()
                    if on_end is not None and len(self.ended) > told:
                        told = len(self.ended)
                        on_end()
                    done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._end(future)
                    live.update(self.progress.table(), refresh=self.console.is_terminal)
        except BaseException:
            self._stop(set(multiprocessing.active_children()) - others)
            raise
        finally:
            for worker in self.workers:
                worker.pool.shutdown(cancel_futures=True)
        return [self.ended[index] for index in range(len(self.runs))]

    def _stop(self, processes: set[BaseProcess]) -> None:
        """End the workers, whose runs can go on later. Ctrl-C reaches them too; a signal to this process does not."""
        wait(self.running, timeout=GRACE)
        for process in processes:
            process.terminate()

    def _submit(self) -> None:
        """Start runs whose teachers are finished while a worker is free; drop those whose teacher failed."""
        for index in list(self.waiting):
            teachers = [self.ended.get(teacher) for teacher in self.runs[index].after]
            if any(teacher is not None and teacher.error for teacher in teachers):
                self.waiting.remove(index)
                failed = self.runs[self.runs[index].after[0]].config.out
                self._record(index, EndedRun(self._out(index), f"not started: its teacher {failed} failed"))
            elif all(teachers) and self.free:
                self.waiting.remove(index)
                worker = self.free.pop(0)
                self.running[self._start(index, worker)] = (index, worker)

    def _start(self, index: int, worker: _Worker) -> Future[EndedRun]:
        try:
            return worker.pool.submit(_train_or_resume, self.runs[index].config, worker.device)
        except BrokenProcessPool:
            worker.pool = _new_pool()
            return worker.pool.submit(_train_or_resume, self.runs[index].config, worker.device)

    def _end(self, future: Future[EndedRun]) -> None:
        index, worker = self.running.pop(future)
        self.free.append(worker)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._try_again(index)
        else:
            self._record(index, EndedRun(self._out(index), str(error)) if error else future.result())

    def _try_again(self, index: int) -> None:
        """Continue a run whose process was killed in a new process, a few times at most."""
        self.deaths[index] += 1
        if self.deaths[index] > DEATHS:
            self._record(index, EndedRun(self._out(index), "its process was killed; the memory may be too small"))
        else:
            self.waiting.insert(0, index)

    def _record(self, index: int, ended: EndedRun) -> None:
        self.ended[index] = ended
        log = ended.run_dir / LOG
        if ended.error is not None:
            ended.run_dir.mkdir(parents=True, exist_ok=True)
            log.write_text(ended.error, encoding="utf-8")
        else:
            log.unlink(missing_ok=True)
        self.console.print(self.progress.finished(index, ended.error, ended.kept), soft_wrap=True)

    def _out(self, index: int) -> Path:
        out = self.runs[index].config.out
        assert out is not None
        return out


def _new_pool() -> ProcessPoolExecutor:
    # Workers are spawned, since a forked child inherits torch's thread pools in an unusable state.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the study is killed: it would go on writing into a run that the next call resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _train_or_resume(config: Config, device: str | None) -> EndedRun:
    assert config.out is not None
    out, started = config.out, time.perf_counter()
    try:
        begun = (out / CONFIG).is_file() and latest(out) is not None
        if begun and same_run(found := read_config(out / CONFIG), config):
            kept = is_complete(out)
            resume(out, device=None if is_here(found.device) else device or config.device)
            return EndedRun(out, kept=kept)
        train(dataclasses.replace(config, device=device) if device else config, overwrite=True)
        return EndedRun(out)
    except Exception:
        text = f"after {time.perf_counter() - started:.1f} s\n{traceback.format_exc()}"
        return EndedRun(out, error=text)


def same_run(found: Config, wanted: Config) -> bool:
    """Whether a run directory has the wanted experiment and seed, on whichever device and executor."""
    found, wanted = with_absolute_paths(found), with_absolute_paths(check_config(wanted))
    before, now = _experiment(found), _experiment(wanted)
    # What is left out takes its value from the data set, or from the device.
    left_open = [name for name, text in now.items() if text in ("null", "auto")]
    filled = {name for name in left_open if name.startswith(("epochs", "augment.", "normalise"))}
    if found.device != wanted.device:
        filled.add("amp")
    return all(before.get(name) == now.get(name) for name in (before.keys() | now.keys()) - filled)


def _experiment(config: Config) -> dict[str, str]:
    settings = flatten(config_to_dict(config))
    # A study's folder may have been moved: the name of a teacher's folder says what the teacher is.
    teachers = " ".join(Path(teacher).name for teacher in config.teachers)
    differ = SAME_EXPERIMENT - {"seed"}
    return {name: text for name, text in settings.items() if name not in differ} | {"teachers": teachers}
