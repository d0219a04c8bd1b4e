"""The record of a job array: a folder with what each task trains, the number of the job, and how each task ended.

STORE/slurm/20261126-170449-3fa29c01/
  plan.json  0.yaml  1.yaml ...   run directories and what they wait for; their configurations
  job.json                        number and name of Slurm's job, once it is submitted
  0.out  1.out ...                what Slurm and the task say before the task writes to its run's log.txt
  0.json 1.json ...               how the task ended, written by the task
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codistill.config import Config, read_config, write_config
from codistill.rundir import FORMAT, make_folder, read_json, remove, write_json
from codistill.studies.one_run import EndedRun

__all__ = [
    "Array", "TaskPlan", "forget", "note_job", "outcome_file", "read_arrays", "read_plan", "write_array",
    "write_outcome",
]  # fmt: skip

PLAN, JOB = "plan.json", "job.json"


@dataclass(frozen=True)
class TaskPlan:
    """What one task trains.

    Attributes:
        config: the run, with absolute paths.
        teachers: the run directories that must be finished before.
    """

    config: Config
    teachers: tuple[Path, ...] = ()

    @property
    def out(self) -> Path:
        """The run directory."""
        assert self.config.out is not None
        return self.config.out


@dataclass(frozen=True)
class Array:
    """A job array that was submitted, or is about to be.

    Attributes:
        folder: its record.
        job: Slurm's number of it.
        name: the name of the job.
        runs: the run directory of each task.
    """

    folder: Path
    job: str
    name: str
    runs: tuple[Path, ...]

    def task(self, number: int) -> str:
        """Slurm's number of a task."""
        return f"{self.job}_{number}"

    def outcome(self, number: int) -> EndedRun | None:
        """How a task ended; None while it has not said so."""
        path = outcome_file(self.folder, number)
        if not path.is_file():
            return None
        record = read_json(path)
        return EndedRun(self.runs[number], record["error"], record["kept"], record["elsewhere"])


def outcome_file(folder: Path, number: int) -> Path:
    """Where a task says how it ended."""
    return folder / f"{number}.json"


def write_outcome(folder: Path, number: int, ended: EndedRun) -> None:
    """Say how a task ended."""
    record = {"version": FORMAT, "error": ended.error, "kept": ended.kept, "elsewhere": ended.elsewhere}
    write_json(outcome_file(folder, number), record)


def write_array(store: Path, plans: Sequence[TaskPlan]) -> Path:
    """Write what the tasks of a new array train; return its folder."""
    folder = store / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    make_folder(folder)
    for number, plan in enumerate(plans):
        write_config(plan.config, folder / f"{number}.yaml")
    runs = [{"out": str(plan.out), "teachers": [str(teacher) for teacher in plan.teachers]} for plan in plans]
    write_json(folder / PLAN, {"version": FORMAT, "runs": runs})
    return folder


def note_job(folder: Path, job: str, name: str) -> Array:
    """Write down the number of the job that trains the runs of this folder."""
    write_json(folder / JOB, {"version": FORMAT, "job": job, "name": name})
    return _read(folder)


def read_plan(folder: Path, number: int) -> TaskPlan:
    """Return what a task trains."""
    run = read_json(folder / PLAN)["runs"][number]
    return TaskPlan(read_config(folder / f"{number}.yaml"), tuple(map(Path, run["teachers"])))


def read_arrays(store: Path) -> list[Array]:
    """Return the arrays that were submitted."""
    return [_read(path.parent) for path in sorted(store.glob(f"*/{JOB}"))]


def forget(folder: Path) -> None:
    """Remove the record of an array that was not submitted, and the store if that was the first."""
    remove(folder)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _read(folder: Path) -> Array:
    job, plan = read_json(folder / JOB), read_json(folder / PLAN)
    return Array(folder, job["job"], job["name"], tuple(Path(run["out"]) for run in plan["runs"]))
