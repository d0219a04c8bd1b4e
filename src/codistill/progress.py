"""The progress of a run in the terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from codistill.console import plain_duration
from codistill.rundir import Epoch, Summary
from codistill.training.batches import leftover
from codistill.training.loggers import Silent
from codistill.training.session import Session

__all__ = ["RunProgress"]


class RunProgress(Silent):
    """A bar with run, epoch, validation error and time left; one line per epoch if the output is not a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}  {task.fields[error]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.began, self.first = 0.0, 0

    def on_start(self, session: Session) -> None:
        """Describe the run and start the bar."""
        config, shape = session.config, session.shape
        data = "own data" if session.on_own_data else config.data
        self.console.print(
            f"[bold]{config.label}[/]: {shape.peers} x {', '.join(config.model)} on {data} "
            f"({len(session.splits.train_N):,} training, {len(session.splits.validation_N):,} validation, "
            f"{len(session.dataset.test):,} test images), {session.epochs} epochs on {session.device}",
            highlight=False,
            soft_wrap=True,
        )
        if session.trial is not None and session.epoch == 0:
            self.console.print(str(session.trial), highlight=False, markup=False, soft_wrap=True)
        self.began, self.first = time.perf_counter(), session.epoch
        self.task = self.bar.add_task(
            str(config.label),
            total=session.epochs,
            completed=session.epoch,
            epoch=session.epoch + 1,
            epochs=session.epochs,
            error="",
        )
        self.bar.start()
        left = leftover(session)
        if left:
            self.console.print(
                f"{left} of the {len(session.splits.train_N):,} training images do not fill a batch of "
                f"{config.batch_size}: each epoch leaves out that many, chosen at random; --last-batch keep trains on "
                "them",
                highlight=False,
                soft_wrap=True,
            )

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Move the bar."""
        assert self.task is not None
        self.bar.update(self.task, completed=session.epoch + step / steps, epoch=session.epoch + 1)

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Show the validation error; print a line if there is no bar."""
        assert self.task is not None
        leader, mean = record.validation.leader.top1_error, record.validation.mean.top1_error
        error = f"validation error {leader:.2f} %, mean {mean:.2f} %"
        self.bar.update(self.task, completed=session.epoch, error=error)
        if not self.console.is_terminal:
            done = session.epoch - self.first
            left = (time.perf_counter() - self.began) / done * (session.epochs - session.epoch)
            self.console.print(
                f"{session.config.label}  epoch {session.epoch}/{session.epochs}  {error}  "
                f"loss {record.train.loss:.4f}  {record.seconds:.1f} s  {plain_duration(left)} left",
                highlight=False,
                soft_wrap=True,
            )
        for concern in record.concerns:
            self.console.print(f"[yellow]epoch {session.epoch}:[/] {escape(concern)}", highlight=False, soft_wrap=True)

    def on_end(self, session: Session, summary: Summary) -> None:
        """Stop the bar."""
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
