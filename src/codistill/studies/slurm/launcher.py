"""The launcher that submits the runs to Slurm, and follows them by what their tasks write and by squeue."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codistill.config import code_names
from codistill.console import print_lines
from codistill.errors import UserError, add_note
from codistill.rundir import LOG, append_line, is_complete, make_folder
from codistill.studies.one_run import EndedRun, has_begun
from codistill.studies.run_list import PlannedRun
from codistill.studies.slurm.arrays import Array, TaskPlan, forget, note_job, read_arrays, write_array
from codistill.studies.slurm.commands import (
    ENDED,
    SlurmSilentError,
    TaskState,
    ended_states,
    queue_states,
    submit,
)  # fmt: skip
from codistill.studies.slurm.options import Slurm
from codistill.terminal import Console
from codistill.training import Config
from codistill.training.paths import with_absolute_paths
from codistill.trusted import named_by_user

__all__ = ["SlurmArrays"]

POLL = 2.0
"""Seconds between two looks at the files that tasks write."""

ASK = 20.0
"""Seconds between two questions to Slurm, whose controller serves a whole cluster."""

LATE = 90.0
"""How long a file of another node may stay unseen: network file systems remember for a minute what is not there."""

MOST_TASKS = 1000
"""Tasks in an array; Slurm's own limit, MaxArraySize, is 1001 unless a cluster has another."""

SAVE_SECONDS = 120
"""How long before its time limit a task is asked to save."""

SCRIPT = """#!/bin/sh
# Until the task listens to it, the signal that comes before the time limit must not end it.
trap '' USR1
exec {python} -m codistill.studies.slurm.task {folder} "$SLURM_ARRAY_TASK_ID"
"""


@dataclass(frozen=True)
class _Task:
    """A task that may still train: its place in an array."""

    array: Array
    number: int

    @property
    def id(self) -> str:
        """Slurm's number of it."""
        return self.array.task(self.number)

    def outcome(self) -> EndedRun | None:
        """How it ended, once this machine sees that, and the results of a finished run."""
        ended = self.array.outcome(self.number)
        return None if ended is None or (ended.error is None and not is_complete(ended.run_dir)) else ended


class SlurmArrays:
    """A launcher (see `runner.Launcher`) that submits job arrays of at most `jobs` tasks at the same time.

    A run for which an earlier call has a task that is queued or running is not submitted again, but followed.

    Args:
        runs: all runs.
        jobs: tasks of an array at the same time; as many as Slurm starts if None.
        slurm: options of sbatch, and where records are kept.
        console: where it prints what was submitted.
    """

    def __init__(self, runs: Sequence[PlannedRun], jobs: int | None, slurm: Slurm, console: Console) -> None:
        self.runs, self.jobs, self.console = runs, jobs, console
        self.store, self.options = slurm.folder.absolute(), slurm.options
        self.note = ""
        self.tasks: dict[int, _Task] = {}
        self.begun = False
        self.asked = -math.inf
        self.missing: dict[int, float] = {}

    def poll(self) -> dict[int, EndedRun]:
        """Wait for a moment; return the runs that have ended. The first call submits all of them."""
        if not self.begun:
            self.begun = True
            return self._submit_all()
        time.sleep(POLL)
        new = {i: outcome for i, task in self.tasks.items() if (outcome := task.outcome())}
        if time.monotonic() - self.asked >= ASK:
            self.asked = time.monotonic()
            new |= self._dead({i: task for i, task in self.tasks.items() if i not in new})
        for index in new:
            del self.tasks[index]
        return {index: dataclasses.replace(one, run_dir=self.runs[index].config.out) for index, one in new.items()}

    def stop(self, why: BaseException) -> None:
        """Leave the jobs as they are, and say how to see and end them."""
        if jobs := sorted({task.array.job for task in self.tasks.values()}, key=int):
            show, end = f"squeue --jobs={','.join(jobs)}", f"scancel {' '.join(jobs)}"
            line = f"Slurm's jobs go on: '{show}' shows them, '{end}' ends them"
            if isinstance(why, KeyboardInterrupt):
                add_note(why, line)
            else:
                print_lines(self.console, [line])

    def close(self) -> None:
        """Nothing is held."""

    def _submit_all(self) -> dict[int, EndedRun]:
        """Submit what is neither finished nor in the queue; return what is finished."""
        done = [i for i, run in enumerate(self.runs) if _is_kept(run.config)]
        kept = {i: EndedRun(self.runs[i].config.out or Path(), kept=True) for i in done}
        queued = self._queued()
        for index, run in enumerate(self.runs):
            if index not in kept and (task := queued.get(_out(run.config))):
                self.tasks[index] = task
        if self.tasks:
            jobs = ",".join(sorted({task.array.job for task in self.tasks.values()}, key=int))
            print_lines(self.console, [f"in the queue already: {_runs(len(self.tasks))}, as job {jobs}"])
        left = [i for i in range(len(self.runs)) if i not in kept and i not in self.tasks]
        while left:
            # Those whose teachers have no task of their own to come.
            level = [i for i in left if not set(self.runs[i].after) & set(left)]
            assert level, "runs wait for each other"
            left = [i for i in left if i not in level]
            # A run that waits for a task in the queue must not hold up those that wait for none.
            self._submit_level([i for i in level if not self._teachers(i)])
            self._submit_level([i for i in level if self._teachers(i)])
        return kept

    def _queued(self) -> dict[Path, _Task]:
        """The tasks of earlier calls that may still train, by run directory."""
        found: dict[Path, _Task] = {}
        arrays = [array for array in read_arrays(self.store) if _open_tasks(array)]
        try:
            states = queue_states(array.job for array in arrays)
        except SlurmSilentError as silent:
            raise UserError(
                f"squeue does not answer ({silent}), and earlier jobs may still train: try again when it does."
            ) from silent
        for array in arrays:
            for task in _open_tasks(array):
                state = states.get(task.id)
                if state and state.job_name == array.name and state.name not in ENDED:
                    found[array.runs[task.number]] = task
        return found

    def _teachers(self, index: int) -> list[str]:
        """Slurm's numbers of the tasks for which a run waits."""
        return [self.tasks[teacher].id for teacher in self.runs[index].after if teacher in self.tasks]

    def _submit_level(self, indices: Sequence[int]) -> None:
        """Submit runs that wait for none of each other. Where an array is full, the next one begins after it."""
        before: list[str] = []
        for start in range(0, len(indices), MOST_TASKS):
            batch = indices[start : start + MOST_TASKS]
            wait = sorted({teacher for index in batch for teacher in self._teachers(index)}) + before
            array = self._submit([_plan(self.runs, index) for index in batch], wait)
            self.tasks |= {index: _Task(array, number) for number, index in enumerate(batch)}
            before = [array.job]

    def _submit(self, plans: Sequence[TaskPlan], wait: Sequence[str]) -> Array:
        for plan in plans:
            # The caller names its code, which the tasks find in files.
            named_by_user(code_names(plan.config))
        folder = write_array(self.store, plans)
        name = f"codistill-{folder.name.rpartition('-')[2]}"
        name = next((o.partition("=")[2] for o in self.options if o.startswith("--job-name=")), name)
        options = [
            f"--job-name={name}",
            f"--array=0-{len(plans) - 1}" + (f"%{self.jobs}" if self.jobs else ""),
            f"--chdir={Path.cwd()}",
            # A percent sign stands for a pattern there.
            f"--output={str(folder).replace('%', '%%')}/%a.out",
            "--open-mode=append",
            "--requeue",
            f"--signal=B:USR1@{SAVE_SECONDS}",
            *([f"--dependency=afterany:{':'.join(wait)}"] if wait else []),
            *self.options,
        ]
        script = SCRIPT.format(python=shlex.quote(sys.executable), folder=shlex.quote(str(folder)))
        try:
            job = submit(options, script)
        except BaseException:
            forget(folder)
            raise
        array = note_job(folder, job, name)
        after = f", after {' '.join(wait)}" if wait else ""
        said = f"submitted {_runs(len(plans))} as job {job}{after}; to see it: squeue --jobs={job}"
        print_lines(self.console, [said])
        return array

    def _dead(self, tasks: dict[int, _Task]) -> dict[int, EndedRun]:
        """Return the runs whose tasks Slurm knows to have ended, or knows no longer, without a word from them."""
        try:
            states = queue_states(task.array.job for task in tasks.values())
        except SlurmSilentError as silent:
            self.note = f"Slurm does not answer: {silent}"
            return {}
        gone = [task.id for task in tasks.values() if task.id not in states]
        states |= ended_states(gone)
        self.note = _counted([states[task.id] for task in tasks.values() if task.id in states])
        dead = {}
        for index, task in tasks.items():
            state = states.get(task.id)
            if state is None or state.job_name != task.array.name or state.name in ENDED:
                if ended := self._end(index, task, state):
                    dead[index] = ended
            else:
                self.missing.pop(index, None)
        return dead

    def _end(self, index: int, task: _Task, state: TaskState | None) -> EndedRun | None:
        """Return how a task ended that is gone; None if it may have said so itself, and the file is not seen yet."""
        out, known = task.array.runs[task.number], state is not None and state.job_name == task.array.name
        if outcome := task.outcome():
            return outcome
        since = self.missing.setdefault(index, time.monotonic())
        ended_itself = state is None or state.name in ("COMPLETED", "FAILED")
        if ended_itself and time.monotonic() - since < LATE:
            return None
        if _is_kept(self.runs[index].config):
            return EndedRun(out)
        said = f"ended as {state.name}{_in_brackets(state.why)}" if known and state else "is no longer known to Slurm"
        output = task.array.folder / f"{task.number}.out"
        error = f"job {task.id} {said}: the next call goes on with what was saved (see also {output})"
        make_folder(out)
        append_line(out / LOG, error)
        return EndedRun(out, error)


def _open_tasks(array: Array) -> list[_Task]:
    """The tasks of an array that have not said how they ended."""
    return [_Task(array, n) for n in range(len(array.runs)) if array.outcome(n) is None]


def _is_kept(config: Config) -> bool:
    """Whether a run is finished, as far as this machine can see, which may lack the run's device."""
    try:
        return is_complete(_out(config)) and has_begun(dataclasses.replace(config, device="auto"))
    except UserError:
        return False


def _plan(runs: Sequence[PlannedRun], index: int) -> TaskPlan:
    config = runs[index].config
    teachers = {str(runs[teacher].config.out): _out(runs[teacher].config) for teacher in runs[index].after}
    # Those that have not begun are no paths yet for `with_absolute_paths`.
    named = tuple(str(teachers.get(name, name)) for name in config.teachers)
    whole = dataclasses.replace(with_absolute_paths(config), teachers=named, out=_out(config))
    return TaskPlan(with_absolute_paths(whole), tuple(teachers.values()))


def _out(config: Config) -> Path:
    assert config.out is not None
    return config.out.absolute()


def _counted(states: Sequence[TaskState]) -> str:
    count = Counter(state.name.lower() + _in_brackets(state.why) for state in states)
    return "Slurm: " + ", ".join(f"{number} {what}" for what, number in count.most_common()) if count else ""


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _in_brackets(why: str) -> str:
    return f" ({why})" if why else ""
