"""Saves a run while it trains: copies its state, and writes it in the background."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

from codistill.rundir import REPLACED, remove
from codistill.training.code import code_of
from codistill.training.finite import Watch
from codistill.training.input_record import labels_digest
from codistill.training.session import Session
from codistill.training.signals import Interrupted, Interruption
from codistill.training.snapshot import Snapshot, capture, prune, publish

__all__ = ["Saver"]

SECONDS = 10.0
"""Least time between two checkpoints, but for the first, the last, and that of an interruption."""


class Saver:
    """Writes the checkpoints of one run, one at a time; a context manager, which waits for the last one.

    Between two checkpoints lie at least ten seconds, however short the epochs. A state with a number that is not finite
    is never written.

    Args:
        session: the run, whose `save_minutes`, `save_steps` and `keep` say how often and how many.
        interruption: notices signals.
    """

    def __init__(self, session: Session, interruption: Interruption) -> None:
        self._session, self._interruption = session, interruption
        self._pool = ThreadPoolExecutor(1, "codistill-saver")
        self._job: Future[None] | None = None
        self._best: Snapshot | None = None
        self._at: tuple[int, int] | None = None
        self._time = time.monotonic()
        self._watch = Watch(session)
        self._code, self._data = code_of(session.config), labels_digest(session.dataset)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # What is being written is finished also when training fails, but another fault must not hide the first.
        self._pool.shutdown()
        if error is None:
            self._collect()

    def resumed(self) -> None:
        """The state of the session is that of a checkpoint on disk."""
        self._at = (self._session.epoch, self._session.step)

    def keep_best(self) -> None:
        """Copy the weights of the best epoch so far; they are written before the next checkpoint that needs them."""
        s = self._session
        if not s.leads:
            return
        # The epoch is counted when all of it is done.
        self._best = capture(s.executor.modules(), s.statistics, epoch=s.best["epoch"])

    def after_step(self) -> None:
        """Save in the middle of an epoch where that is due.

        Raises:
            Interrupted: a signal has asked for an end; the state is on disk.
            RunFailedError: an earlier checkpoint could not be written.
        """
        self._collect()
        s, config = self._session, self._session.config
        minutes = config.save_minutes
        late = minutes is not None and time.monotonic() - self._time >= 60 * minutes
        due = late or (config.save_steps is not None and s.step % config.save_steps == 0 and self._allowed)
        self._act(due and s.step < s.steps)

    def after_epoch(self) -> None:
        """Save after an epoch, unless the last checkpoint is younger than ten seconds; raises as `after_step`."""
        self._collect()
        self._act(self._allowed)

    def _act(self, due: bool) -> None:
        """Save where that is due, and end where a signal has asked for it; of several processes all do the same."""
        world, asked = self._session.world, self._interruption.asked
        due = due and not self.busy
        if world is not None:
            # The clock and the disk of the one that writes decide; a signal may have come to any of them.
            asked, any_due = world.largest([asked or 0, due and world.leads])
            due = bool(any_due)
        if asked:
            self.save()
            raise Interrupted(asked)
        if due:
            self.save(wait=False)

    def save(self, wait: bool = True) -> None:
        """Save the state as it is, unless it is on disk; without `wait`, not while another one is being written."""
        s = self._session
        if not wait and self.busy:
            return
        self._finish()
        at = (s.epoch, s.step)
        if at != self._at:
            s.executor.assemble()
            state, best = s.state(), self._best
            self._at, self._time, self._best = at, time.monotonic(), None
            if s.leads:
                snapshot = capture(s.executor.modules(), s.statistics, state, *at)
                self._job = self._pool.submit(self._write, snapshot, best)
        if wait:
            self._finish()
            if s.world is not None:
                # The others may read what was written.
                s.world.largest([0])

    @contextmanager
    def if_it_fails(self, kind: type[BaseException] = Exception) -> Iterator[None]:
        """Save the state as it is if the block, which is an observer's, raises an error of this kind.

        Not with several processes, since the others see no error and would not save.
        """
        try:
            yield
        except kind:
            if self._session.world is None:
                self.save()
            raise

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._job is not None and not self._job.done()

    @property
    def _allowed(self) -> bool:
        return self._at is None or time.monotonic() - self._time >= SECONDS

    def _write(self, snapshot: Snapshot, best: Snapshot | None) -> None:
        run_dir = self._session.out
        for one in (best, snapshot):
            if one is not None:
                self._watch.check(one)
                publish(run_dir, one, self._code, self._data)
        prune(run_dir, self._session.config.keep)
        remove(run_dir / REPLACED)

    def _finish(self) -> None:
        if self._job is not None:
            job, self._job = self._job, None
            job.result()

    def _collect(self) -> None:
        """Raise what a finished job has raised."""
        if self._job is not None and self._job.done():
            self._finish()
