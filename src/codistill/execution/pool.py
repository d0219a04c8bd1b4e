"""Processes that answer one request each at a time, and end with whoever started them."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import torch.multiprocessing

from codistill.errors import UserError
from codistill.execution.worker import Failure, serve

__all__ = ["Pool"]

SECONDS = 5.0
"""What a process gets to end by itself."""

PATIENCE = 1800.0
"""Seconds without a reply after which a process hangs; the slowest step on a CPU takes minutes."""


class Pool:
    """Processes that run `codistill.execution.worker.serve`; they end when the pool is closed or forgotten.

    Args:
        count: number of processes.
        threads: torch's threads in each of them.
    """

    def __init__(self, count: int, threads: int) -> None:
        # Spawned, since a forked child inherits torch's thread pools in an unusable state.
        context = torch.multiprocessing.get_context("spawn")
        self._members: list[tuple[SpawnProcess, Connection]] = []
        # Ends what has begun, also where a later process cannot be started.
        self._finalizer = weakref.finalize(self, _end, self._members)
        self._ready = False
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, threads), daemon=True)
            process.start()
            # So that a process which dies closes its end.
            there.close()
            self._members.append((process, here))

    def __len__(self) -> int:
        return len(self._members)

    @property
    def alive(self) -> bool:
        """Whether it answers requests: not after `close`, nor after a request that was interrupted."""
        return self._finalizer.alive

    def ask(self, requests: Sequence[object]) -> list[Any]:
        """One request for each process, and their replies.

        Raises:
            UserError: a process says so, or has died or hangs, which closes the pool.
            RuntimeError: a process failed; the message has its traceback.
        """
        at = 0
        try:
            for at, request in enumerate(requests):
                self._members[at][1].send(request)
            replies = []
            for at in range(len(requests)):
                replies.append(self._reply(at))
        except (EOFError, OSError) as error:
            process = self._members[at][0]
            process.join(SECONDS)
            self.close()
            raise self._death_of(process) from error
        except BaseException:
            # Replies that nobody has read must not be taken for those of the next request.
            self.close()
            raise
        self._ready = True
        for failure in replies:
            if isinstance(failure, Failure):
                if failure.of_user:
                    raise UserError(failure.text)
                raise RuntimeError(f"a process of the executor 'processes' failed:\n{failure.text}")
        return replies

    def _reply(self, at: int) -> Any:
        process, connection = self._members[at]
        if connection.poll(PATIENCE):
            return connection.recv()
        process.kill()
        raise UserError(
            f"executor 'processes': the process {process.pid} has not answered for {PATIENCE:g} seconds and was ended; "
            "look at what the forward of the networks waits for, or use the executor 'loop'."
        )

    def close(self) -> None:
        """End the processes."""
        self._finalizer()

    def _death_of(self, process: SpawnProcess) -> UserError:
        code, which = process.exitcode, f"executor 'processes': the process {process.pid}"
        if code is not None and code < 0:
            return UserError(
                f"{which} was killed by signal {-code} ({signal.Signals(-code).name}); probably memory ran out: give "
                "fewer or smaller peers or a smaller batch, or use the executor 'recompute'."
            )
        if self._ready:
            return UserError(
                f"{which} ended with exit code {code}, see what it printed; the executor 'loop' needs none."
            )
        return UserError(
            f"{which} ended with exit code {code} before it was ready, see what it printed; a script that trains must "
            "do so under \"if __name__ == '__main__':\", since every process imports it."
        )


def _work(connection: Connection, threads: int) -> None:
    serve(connection, threads)
    sys.stdout.flush()
    # There is nothing to clean up, and torch takes seconds over its end where the machine is busy.
    os._exit(0)


def _end(members: Sequence[tuple[SpawnProcess, Connection]]) -> None:
    for _, connection in members:
        connection.close()
    for process, _ in members:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
