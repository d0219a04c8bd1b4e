"""`python -m codistill.studies.slurm.task FOLDER NUMBER`: what a task of a job array runs on its node."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from codistill.config import Config
from codistill.rundir import LOG, RunInUseError, is_complete, lock_run, make_folder
from codistill.studies.one_run import EndedRun, train_or_resume
from codistill.studies.slurm.arrays import TaskPlan, outcome_file, read_plan, write_outcome
from codistill.training.checkpoint import latest

__all__ = ["main"]


class _TimeLimit:
    """Slurm's SIGUSR1 before the time limit, handled as a SIGTERM: the run saves and ends, or ends if none trains."""

    near = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.near = True
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or resume one run, and write down how it ended, unless it was interrupted; return the exit code."""
    folder, number = sys.argv[1:] if arguments is None else arguments
    record, task = Path(folder), int(number)
    # Of an earlier start of this task, which Slurm has put back into the queue.
    outcome_file(record, task).unlink(missing_ok=True)
    limit = _TimeLimit()
    signal.signal(signal.SIGUSR1, limit)
    plan = read_plan(record, task)
    make_folder(plan.out)
    before = latest(plan.out)
    try:
        ended = _run(plan)
    except KeyboardInterrupt as stop:
        print(f"{'the time limit is near' if limit.near else stop}; what was saved is kept", flush=True)
        if limit.near:
            _back_into_the_queue(latest(plan.out) != before)
        return getattr(stop, "code", 130)
    except Exception:
        ended = EndedRun(plan.out, traceback.format_exc())
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    write_outcome(record, task, ended)
    return int(ended.error is not None and not ended.elsewhere)


def _run(plan: TaskPlan) -> EndedRun:
    try:
        with lock_run(plan.out):
            pass
    except RunInUseError as error:
        # The log is the other process's.
        return EndedRun(plan.out, f"in progress elsewhere: {error}", elsewhere=True)
    _write_to(plan.out / LOG)
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} job {_own_id()} on {os.uname().nodename}", flush=True)
    missing = next((teacher for teacher in plan.teachers if not is_complete(teacher)), None)
    if missing is not None:
        ended = EndedRun(plan.out, f"not started: its teacher {missing} is not finished")
    else:
        ended = train_or_resume(_with_threads(plan.config))
    print(ended.error or "finished", flush=True)
    return ended


def _write_to(log: Path) -> None:
    """Let everything that this process prints, warnings and crashes included, go to the run's log."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(target, stream.fileno())
    os.close(target)


def _with_threads(config: Config) -> Config:
    """Use the cores that the task has: PyTorch counts those of the whole node where Slurm does not bind."""
    cores = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return dataclasses.replace(config, threads=int(cores)) if config.threads is None and cores.isdigit() else config


def _back_into_the_queue(progress: bool) -> None:
    """Let Slurm start this task again; not without progress, or it would go on so for ever."""
    if not progress:
        print("the time limit is too short for a single step, so it is not started again: give --slurm time=...")
        return
    ended = subprocess.run(["scontrol", "requeue", _own_id()], capture_output=True, text=True)
    print(f"back in the queue{f': refused, {ended.stderr.strip()}' if ended.returncode else ''}", flush=True)


def _own_id() -> str:
    return f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"


if __name__ == "__main__":
    raise SystemExit(main())
