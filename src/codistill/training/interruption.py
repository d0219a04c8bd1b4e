"""How an interrupted run is continued: the command, and a note of it on Ctrl-C."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codistill.errors import add_note
from codistill.rundir import CONFIG
from codistill.training.checkpoint import latest

__all__ = ["resumable", "resume_command"]


def resume_command(run_dir: Path) -> str:
    """Return the command that continues a run, ready for a shell."""
    return f"codistill resume {shlex.quote(str(run_dir))}"


@contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Let a KeyboardInterrupt pass with a note that says how to go on with the run."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if latest(run_dir) is not None:
            add_note(stop, f"to continue from the last checkpoint: {resume_command(run_dir)}")
        elif (run_dir / CONFIG).is_file():
            add_note(stop, "it was before the first step, and the same command with --overwrite starts again")
        raise
