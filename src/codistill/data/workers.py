"""Processes that decode images ahead: a loader of them, and what is said where one dies or hangs."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from codistill.errors import RunFailedError, one_line

__all__ = ["TIMEOUT", "load_ahead", "worker_failure"]

TIMEOUT = 300.0
"""Seconds without a batch after which a process hangs, if the user gives no number."""

_DEAD = re.compile(r"DataLoader worker \((?:pid|pid\(s\)) ([\d, ]+)\) (.*)")
_SHARED = "docker run --shm-size 8g"


def load_ahead(jobs: Dataset[Any], count: int, workers: int, pin: bool, timeout: float) -> Iterator[Any]:
    """Yield what `jobs` gives for 0 to `count` - 1, in order.

    Args:
        jobs: gives whole batches.
        count: of them.
        workers: processes that make them ahead; 0: this process makes them.
        pin: whether they are put into pinned memory.
        timeout: seconds without a batch after which the processes hang; without effect on this process itself.

    Raises:
        RunFailedError: a process has died or hangs.
    """
    workers = min(workers, count)
    loader = DataLoader(
        jobs,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        timeout=timeout if workers else 0,
        worker_init_fn=_ignore_interrupts,
        # Without it the loader would draw a seed for its processes from torch's global generator.
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except RuntimeError as error:
        failure = worker_failure(error, timeout)
        if failure is None:
            raise
        raise failure from error


def worker_failure(error: RuntimeError, timeout: float | None = None) -> RunFailedError | None:
    """Return what is to be said of an error of torch if it means that a process has died or hangs, else None.

    torch notices a death in a handler of signals, so that its error may appear in any line of the main thread.

    Args:
        error: of torch.
        timeout: of the loader, if it is known.
    """
    text = one_line(error)
    if "DataLoader timed out" in text:
        after = "" if timeout is None else f" for {timeout:g} seconds"
        return RunFailedError(
            f"no process that decodes images has given a batch{after}: one hangs, as where a disk or a network does; "
            "look at the storage, give it longer (--worker-timeout), or decode in the training process (--workers 0)."
        )
    # Where torch's handler of signals spoke first, its error is the cause of the other, and says more.
    deaths = (_DEAD.search(one_line(one)) for one in (error.__cause__, error) if isinstance(one, RuntimeError))
    dead = next(filter(None, deaths), None)
    if dead is None:
        return None
    process, how = dead.group(1), dead.group(2).rstrip(". ")
    how = f"was {how.removeprefix('is ')}" if how.startswith("is ") else how
    return RunFailedError(f"the process {process} that decodes images {_why(how)}.")


def _why(how: str) -> str:
    """How a process has ended, in torch's words, with the probable cause and the remedy."""
    if "Bus error" in how:
        return f"was killed by signal: Bus error; probably shared memory ran out: allow more ({_SHARED})"
    if "Killed" in how:
        return f"{how}; probably memory ran out: give fewer --workers, or a smaller --batch-size"
    if "killed by signal" in how:
        return f"{how.partition('. ')[0]}; decode in the training process (--workers 0) to see where"
    return (
        f"{how.partition('. ')[0]}; probably the code that reads images ended it: decode in the training process "
        "(--workers 0) to see where"
    )


def _ignore_interrupts(_: int) -> None:
    # Ctrl-C in a terminal reaches all processes; the one that trains finishes its step first, and needs its images.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
