"""Processes that decode images ahead, and what is said where one dies or hangs."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from codistill.errors import RunFailedError

__all__ = ["TIMEOUT", "load_ahead"]

TIMEOUT = 300.0
"""Seconds without a batch after which the processes hang, if the user gives no number."""

LOOK = 5.0
"""Seconds between two looks whether they live."""


def load_ahead(jobs: Dataset[Any], count: int, workers: int, pin: bool, timeout: float) -> Iterator[Any]:
    """Yield what `jobs` gives for 0 to `count` - 1, in order.

    Args:
        jobs: gives whole batches.
        count: of them.
        workers: processes that make them ahead; 0: this process makes them.
        pin: whether they are put into pinned memory.
        timeout: seconds without a batch after which the processes hang; without effect where there are none.

    Raises:
        RunFailedError: a process has died, or they hang.
    """
    workers = min(workers, count)
    loader = DataLoader(
        jobs,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        timeout=min(LOOK, timeout) if workers else 0,
        worker_init_fn=_ignore_interrupts,
        # Without it the loader would draw a seed for its processes from torch's global generator.
        generator=torch.Generator(),
    )
    made, processes = _begun(loader)
    for _ in range(count):
        yield _next(made, processes, timeout)


def _ignore_interrupts(_: int) -> None:
    # Ctrl-C in a terminal reaches all processes; the one that trains finishes its step first, and needs its images.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _begun(loader: DataLoader[Any]) -> tuple[Iterator[Any], Sequence[BaseProcess]]:
    """The loader's iterator, and its processes.

    From the first of its processes on, torch raises the death of one in a handler of signals, in whatever line the main
    thread is. The earlier handler is put back: a death then shows where a batch is waited for, and nowhere else.
    """
    handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    others = multiprocessing.active_children()
    made = iter(loader)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)
    return made, [process for process in multiprocessing.active_children() if process not in others]


def _next(made: Iterator[Any], processes: Sequence[BaseProcess], timeout: float) -> Any:
    began = time.monotonic()
    while True:
        try:
            return next(made)
        except (RuntimeError, ConnectionError, EOFError) as error:
            dead = _dead(processes, 0 if isinstance(error, RuntimeError) else LOOK)
            late = "DataLoader timed out" in str(error)
            if dead is None and not late:
                raise
            # An iterator of torch whose time is over goes on where it was.
            if dead is None and time.monotonic() - began < timeout:
                continue
            for process in processes:
                # torch would wait seconds for each of them.
                process.kill()
            raise RunFailedError(_hanging(timeout) if dead is None else _death_of(dead)) from error


def _dead(processes: Sequence[BaseProcess], seconds: float) -> BaseProcess | None:
    """One that has failed.

    Where one was about to send a batch, the system says only after a moment that it is dead.
    """
    ended = wait([process.sentinel for process in processes], seconds) if processes else []
    for process in processes:
        if process.sentinel in ended:
            process.join()
    return next((process for process in processes if process.exitcode), None)


def _hanging(timeout: float) -> str:
    return (
        f"no process that decodes images has given a batch for {timeout:g} seconds: one hangs, as where a disk or a "
        "network does; look at the storage, give it longer (--worker-timeout), or decode in the training process "
        "(--workers 0)."
    )


def _death_of(process: BaseProcess) -> str:
    """How a process has ended, with the probable cause and the remedy."""
    code, which = process.exitcode or 0, f"the process {process.pid} that decodes images"
    if code >= 0:
        return (
            f"{which} ended with exit code {code}; probably the code that reads images ended it: decode in the "
            "training process (--workers 0) to see where."
        )
    why = {
        "SIGKILL": "probably memory ran out: give fewer --workers, or a smaller --batch-size",
        "SIGBUS": "probably shared memory ran out: allow more (docker run --shm-size 8g)",
    }
    number = signal.Signals(-code)
    remedy = why.get(number.name, "decode in the training process (--workers 0) to see where")
    return f"{which} was killed by signal: {signal.strsignal(number)} ({number.name}); {remedy}."
