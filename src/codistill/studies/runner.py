"""The runs of a study, trained by a launcher: what is finished is kept, what was interrupted goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rich.live import Live

from codistill.studies.local import LocalWorkers
from codistill.studies.one_run import EndedRun
from codistill.studies.progress import StudyProgress
from codistill.studies.run_list import PlannedRun
from codistill.studies.slurm import Slurm, SlurmArrays
from codistill.terminal import Console
from codistill.training import Config

__all__ = ["Launcher", "at_a_time", "run_all"]


class Launcher(Protocol):
    """Where runs are trained. Runs are known by their index."""

    note: str
    """What the display says of it, besides the runs."""

    def poll(self) -> dict[int, EndedRun]:
        """Wait for a moment; return the runs that have ended, after the next ones were started."""
        ...

    def stop(self, why: BaseException) -> None:
        """The caller ends before the runs do; a note that is added to `why` is shown to the user."""
        ...

    def close(self) -> None:
        """Called at the end, however it came."""
        ...


def run_all(
    runs: Sequence[PlannedRun | Config],
    jobs: int | None,
    console: Console,
    devices: Sequence[str] = (),
    on_end: Callable[[], None] | None = None,
    slurm: Slurm | None = None,
) -> list[EndedRun]:
    """Train every run, `jobs` at a time, and show which are running, which are done and the time left.

    A finished run is not trained again. An interrupted one goes on from its last checkpoint. A failed one stops only
    the runs that learn from it.

    Args:
        runs: each with its own `out`; a bare configuration waits for no other run.
        jobs: worker processes, each of which uses the `threads` of its run (1 if None); or Slurm's tasks at the same
            time (as many as Slurm starts if None).
        console: where progress is shown.
        devices: used by the workers in turn, instead of the device in the configuration; not with Slurm.
        on_end: called whenever runs have ended, after the next ones were started.
        slurm: train the runs as jobs of Slurm, instead of in processes of this machine.

    Returns:
        The results in the order of `runs`.

    Raises:
        UserError: Slurm refuses the jobs.
        KeyboardInterrupt: Slurm's jobs go on, and a note names them; processes of this machine are ended.
    """
    planned = [r if isinstance(r, PlannedRun) else PlannedRun(r) for r in runs]
    progress = StudyProgress([run.config for run in planned])
    launcher: Launcher
    if slurm is None:
        launcher = LocalWorkers(planned, jobs or 1, devices)
    else:
        launcher = SlurmArrays(planned, jobs, slurm, console)
    ended: dict[int, EndedRun] = {}
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while len(ended) < len(planned):
                new = launcher.poll()
                ended |= new
                for index, one in new.items():
                    console.print(progress.finished(index, one), soft_wrap=True)
                if new and on_end is not None and len(ended) < len(planned):
                    on_end()
                live.update(progress.table(launcher.note), refresh=console.is_terminal)
    except BaseException as why:
        launcher.stop(why)
        raise
    finally:
        launcher.close()
    return [ended[index] for index in range(len(planned))]


def at_a_time(jobs: int | None) -> str:
    """Return how many runs are trained at the same time, in words."""
    return "as many at a time as Slurm starts" if jobs is None else f"{jobs} at a time"
