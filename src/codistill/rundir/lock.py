"""One process at a time trains into a run directory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from codistill.errors import UserError
from codistill.rundir.names import LOCK

__all__ = ["RunInUseError", "lock_run"]


class RunInUseError(UserError):
    """Another process trains into the run directory."""


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is there; the system releases it when the process ends, however it ends.

    Raises:
        RunInUseError: another process holds it.
    """
    # filelock's own context manager: it takes flock where there is one, and what Windows has elsewhere.
    lock = FileLock(run_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunInUseError(
            f"{run_dir} is in use: another process trains into it; wait until it has ended, or use another folder."
        ) from None
    except (NotImplementedError, OSError) as error:
        # Some network file systems have no locks; a run must not fail for that.
        warnings.warn(
            f"{run_dir} cannot be locked ({error}): make sure that no other process trains into it", stacklevel=3
        )
        yield
        return
    try:
        yield
    finally:
        lock.release()
