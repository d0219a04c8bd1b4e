"""Slurm's programs: sbatch submits, squeue and sacct say in which state tasks are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codistill.errors import UserError

__all__ = ["ENDED", "SlurmSilentError", "TaskState", "ended_states", "queue_states", "submit"]

ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
"""States in which a task stays; in all others (PENDING, RUNNING, COMPLETING, REQUEUED, ...) it may still train."""

SECONDS = 60.0
"""Slurm's controller may be busy; after this, a question counts as not answered."""


class SlurmSilentError(Exception):
    """A question to Slurm was not answered: nothing is known, and it can be asked again later."""


@dataclass(frozen=True)
class TaskState:
    """What Slurm says of a task.

    Attributes:
        name: the state, such as "RUNNING".
        why: why it waits ("Priority"), or with which code it ended ("1:0"); empty where Slurm says nothing.
        job_name: the name of its job, by which a number that Slurm has given again is recognised.
    """

    name: str
    why: str
    job_name: str


def submit(options: Sequence[str], script: str) -> str:
    """Submit a script; return the number of its job. UserError with what sbatch says where it refuses."""
    ended = subprocess.run(["sbatch", "--parsable", *options], input=script, capture_output=True, text=True)
    if ended.returncode:
        said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in ended.stderr.strip().splitlines()]
        raise UserError(f"sbatch refuses the jobs ({'; '.join(said)}): correct --slurm.")
    return ended.stdout.strip().splitlines()[-1].partition(";")[0]


def queue_states(jobs: Iterable[str]) -> dict[str, TaskState]:
    """Return the tasks that squeue knows, those that ended some minutes ago among them, by number such as "12_3".

    Raises:
        SlurmSilentError: squeue did not answer.
    """
    jobs = sorted(set(jobs))
    if not jobs:
        return {}
    form = "--format=%i|%T|%r|%j"
    ended = _asked(["squeue", f"--jobs={','.join(jobs)}", "--array", "--states=all", "--noheader", form])
    # So it says where it knows none of them.
    if "Invalid job id" in ended.stderr:
        return {}
    if ended.returncode:
        raise SlurmSilentError(_last_line(ended.stderr))
    return _parsed(ended.stdout)


def ended_states(tasks: Iterable[str]) -> dict[str, TaskState]:
    """Return the tasks that sacct knows; none where there is no accounting."""
    tasks = sorted(set(tasks))
    if not tasks or shutil.which("sacct") is None:
        return {}
    form = "--format=JobID,State,ExitCode,JobName"
    command = ["sacct", f"--jobs={','.join(tasks)}", "--allocations", "--parsable2", "--noheader", form]
    try:
        ended = _asked(command)
    except SlurmSilentError:
        return {}
    return {} if ended.returncode else _parsed(ended.stdout)


def _parsed(lines: str) -> dict[str, TaskState]:
    """Parse lines of number, state ("CANCELLED by 1000", too), reason or code, and name, in which there may be a |."""
    found = {}
    for line in lines.splitlines():
        number, state, why, name = line.strip().split("|", 3)
        found[number] = TaskState(state.split()[0], "" if why == "None" else why, name)
    return found


def _asked(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilentError(f"{command[0]}: {error}") from error


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
