"""Runs of a study in worker processes of this machine."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from codistill.rundir import LOG
from codistill.studies.one_run import EndedRun, train_or_resume
from codistill.studies.run_list import PlannedRun
from codistill.training import Config

__all__ = ["LocalWorkers"]

POLL = 0.5
"""Seconds between two updates of the display."""

GRACE = 10.0
"""Seconds for workers to end by themselves after an interruption."""

DEATHS = 2
"""How often the process of a run may be killed (by the system, for its memory) before the run has failed."""

_WARNED: dict[tuple[type[Warning], str], None] = {}
"""In a worker: class and text of the warnings of its run."""


@dataclass
class _Worker:
    """A pool of one process, so that a killed process stops no other run, and its device."""

    device: str | None
    pool: ProcessPoolExecutor


class LocalWorkers:
    """A launcher (see `runner.Launcher`) that trains `jobs` runs at a time.

    Args:
        runs: all runs.
        jobs: worker processes; each uses the `threads` of its run.
        devices: used by the workers in turn, instead of the device in the configuration.
    """

    note = ""

    def __init__(self, runs: Sequence[PlannedRun], jobs: int, devices: Sequence[str]) -> None:
        self.runs = runs
        self.workers = [_Worker(devices[i % len(devices)] if devices else None, _new_pool()) for i in range(jobs)]
        self.others = set(multiprocessing.active_children())
        self.free = list(self.workers)
        self.waiting = list(range(len(runs)))
        self.running: dict[Future[EndedRun], tuple[int, _Worker]] = {}
        self.ended: dict[int, EndedRun] = {}
        self.deaths = [0] * len(runs)

    def poll(self) -> dict[int, EndedRun]:
        """Wait for a moment; return the runs that have ended, after the next ones were started."""
        before = set(self.ended)
        done, _ = wait(self.running, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            self._end(future)
        self._submit()
        return {index: ended for index, ended in self.ended.items() if index not in before}

    def stop(self, why: BaseException) -> None:
        """End the workers, whose runs can go on later. Ctrl-C reaches them too; a signal to this process does not."""
        processes = set(multiprocessing.active_children()) - self.others
        wait(self.running, timeout=GRACE)
        for process in processes:
            process.terminate()

    def close(self) -> None:
        """Let the processes go."""
        for worker in self.workers:
            worker.pool.shutdown(cancel_futures=True)

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
            return worker.pool.submit(_run, self.runs[index].config, worker.device)
        except BrokenProcessPool:
            worker.pool = _new_pool()
            return worker.pool.submit(_run, self.runs[index].config, worker.device)

    def _end(self, future: Future[EndedRun]) -> None:
        index, worker = self.running.pop(future)
        self.free.append(worker)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            self._try_again(index)
            return
        ended = EndedRun(self._out(index), str(error)) if error else future.result()
        self._record(index, ended)
        for category, text in ended.warned:
            warnings.warn(text, category, stacklevel=2)

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
        if ended.elsewhere:
            return
        if ended.error is not None:
            ended.run_dir.mkdir(parents=True, exist_ok=True)
            log.write_text(ended.error, encoding="utf-8")
        else:
            log.unlink(missing_ok=True)

    def _out(self, index: int) -> Path:
        out = self.runs[index].config.out
        assert out is not None
        return out


def _new_pool() -> ProcessPoolExecutor:
    # Workers are spawned, since a forked child inherits torch's thread pools in an unusable state.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)


def _run(config: Config, device: str | None) -> EndedRun:
    """Bring a run to its end."""
    ended = dataclasses.replace(train_or_resume(config, device), warned=tuple(_WARNED))
    _WARNED.clear()
    return ended


def _begin_worker() -> None:
    """Keep what this process warns of, for the parent to print: many workers would say the same, between its lines.

    End this process when the study is killed: it would go on writing into a run that the next call resumes.
    """

    def keep(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        # A class of the user's own may be unknown to the parent.
        _WARNED[category if category.__module__ == "builtins" else UserWarning, str(message)] = None

    warnings.showwarning = keep
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
