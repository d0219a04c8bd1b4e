"""The progress of a run in the terminal: what is trained, one line per epoch, and a bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from codistill.config import describe_recipe
from codistill.console import plain_duration, print_lines
from codistill.data import batch_count
from codistill.rundir import FIGURES, Epoch, Summary
from codistill.terminal import Console, styled
from codistill.training.batches import leftover
from codistill.training.observers import Observer
from codistill.training.session import Session

__all__ = ["RunProgress"]

GAP = "  "


@dataclass(frozen=True)
class EpochLine:
    """What is said of one epoch."""

    record: Epoch
    epochs: int
    headline: str
    left: float
    figure: str = "error"

    @property
    def training_error(self) -> float:
        """Training error of the leader, or of the mean student, in percent."""
        errors = self.record.train.error_by_peer
        return errors[self.record.validation.leader_peer] if self.headline == "leader" else sum(errors) / len(errors)

    @property
    def validation_error(self) -> float:
        """Top-1 error on the validation images of the same student, in percent."""
        return self.record.validation.score(self.headline).top1_error

    @property
    def validation_figure(self) -> float:
        """The headline figure on the validation images of the same student, in percent."""
        value = self.record.validation.score(self.headline).value(self.figure)
        return math.nan if value is None else value


@dataclass(frozen=True)
class Column:
    """A column of the lines of epochs; `short` is its heading where the terminal is narrow."""

    title: str
    short: str
    least: int
    text: Callable[[EpochLine], str]


COLUMNS = (
    Column("epoch", "epoch", 7, lambda line: f"{line.record.epoch}/{line.epochs}"),
    Column("training error %", "train %", 6, lambda line: f"{line.training_error:.2f}"),
    Column("validation error %", "valid. %", 6, lambda line: f"{line.validation_error:.2f}"),
    Column("time left", "left", 7, lambda line: plain_duration(line.left)),
    Column("loss per student", "loss", 7, lambda line: f"{line.record.loss_per_student:.4f}"),
    Column("learning rate", "rate", 8, lambda line: f"{line.record.lr:.3g}"),
    Column("images/s", "images/s", 8, lambda line: f"{line.record.images_per_second:,.0f}"),
)
"""The ones that matter most first: a narrow terminal leaves out the last ones."""


class EpochTable:
    """Headings and lines of epochs in aligned columns that fit `width` characters."""

    def __init__(self, width: int, figure: str = "error") -> None:
        columns = list(COLUMNS)
        if figure != "error":
            columns.insert(3, _column_of(figure))
        self.short = _width(columns, short=False) > width
        least = 3 if figure == "error" else 4
        while _width(columns, self.short) > width and len(columns) > least:
            columns.pop()
        self.columns = columns

    def heading(self) -> str:
        """Return the line of headings."""
        return GAP.join(_heading(column, self.short).rjust(_size(column, self.short)) for column in self.columns)

    def line(self, line: EpochLine) -> str:
        """Return the line of an epoch."""
        return GAP.join(column.text(line).rjust(_size(column, self.short)) for column in self.columns)


def _column_of(figure: str) -> Column:
    """The column of a headline figure that is not the error."""
    name = FIGURES[figure]
    return Column(f"{name} %", f"{name} %", 6, lambda line: f"{line.validation_figure:.2f}")


def _heading(column: Column, short: bool) -> str:
    return column.short if short else column.title


def _size(column: Column, short: bool) -> int:
    return max(len(_heading(column, short)), column.least)


def _width(columns: Sequence[Column], short: bool) -> int:
    return sum(_size(column, short) for column in columns) + len(GAP) * (len(columns) - 1)


class RunProgress(Observer):
    """Says what is trained; then a table with a line per epoch and a bar, or plain lines if there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.table = EpochTable(console.width)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:.0f} %"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not self.live,
            transient=True,
        )
        self.task: TaskID | None = None
        self.began, self.first = 0.0, 0

    def on_start(self, session: Session) -> None:
        """Describe the run and start the bar."""
        self.table = EpochTable(self.console.width, session.config.headline)
        self._say(*_what(session))
        if session.config.recipe is not None and session.epoch == 0:
            print_lines(self.console, [describe_recipe(session.config)])
        if session.data_summary is not None and session.epoch == 0:
            print_lines(self.console, session.data_summary.lines)
        self._say(*session.notes)
        if session.trial is not None and session.epoch == 0:
            self._say(str(session.trial))
        left = leftover(session)
        if left:
            self._say(
                f"{left} of the {len(session.splits.train_N):,} training images do not fill a batch of "
                f"{session.config.batch_size}: each epoch leaves out that many, chosen at random; --last-batch keep "
                "trains on them"
            )
        if self.live:
            self.console.print(self.table.heading(), style="bold")
        self.began, self.first = time.perf_counter(), session.epoch
        epoch = min(session.epoch + 1, session.epochs)
        self.task = self.bar.add_task(
            "", total=session.epochs, completed=session.epoch, epoch=epoch, epochs=session.epochs
        )
        self.bar.start()

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Move the bar."""
        assert self.task is not None
        self.bar.update(self.task, completed=session.epoch + step / steps, epoch=session.epoch + 1)

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """Print the line of the epoch, and what looks wrong in it."""
        assert self.task is not None
        self.bar.update(self.task, completed=session.epoch)
        each = (time.perf_counter() - self.began) / (session.epoch - self.first)
        left = each * (session.epochs - session.epoch)
        line = EpochLine(record, session.epochs, session.headline, left, session.config.headline)
        if self.live:
            self.console.print(self.table.line(line), no_wrap=True, crop=True)
        else:
            self._say(_sentence(line))
        for concern in record.concerns:
            said = styled((f"warning, epoch {session.epoch}:", "yellow"), f" {concern}")
            self.console.print(said, soft_wrap=True)

    def on_end(self, session: Session, summary: Summary) -> None:
        """Stop the bar, and say so if the run has ended early."""
        self.stop()
        if summary.stopped_early:
            self._say(f"stopped early after epoch {summary.last.epoch} of {summary.epochs}: {summary.stop_reason}")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()

    def _say(self, *lines: str) -> None:
        print_lines(self.console, lines)


def _what(session: Session) -> tuple[str, str]:
    """Return what is trained and on what, and how."""
    config, shape = session.config, session.shape
    networks = " + ".join(dict.fromkeys(config.model))
    if shape.peers == 1:
        group = f"one {networks}"
    elif config.group == "networks":
        group = f"{shape.peers} students, {networks}"
    else:
        group = f"{shape.peers} students ({config.group} of {networks})"
    data = "own data" if session.on_own_data else config.data
    images = ", ".join(
        f"{len(part):,} {name}"
        for part, name in (
            (session.splits.train_N, "training"),
            (session.splits.held_out_N, "held-out"),
            (session.splits.validation_N, "validation"),
            (session.dataset.test, "test"),
        )
        if len(part)
    )
    channels, height, width = session.dataset.train.shape
    sizes = f"{width} × {height} pixels, {'grey' if channels == 1 else 'RGB'}"
    steps = batch_count(len(session.splits.train_N), config.batch_size, config.last_batch)
    rate = f"{config.optim.name} with learning rate {config.optim.lr_used:g} ({config.optim.schedule})"
    return (
        f"{config.label}: {group}, on {data}: {len(session.dataset.classes):,} classes; {images} images ({sizes})",
        f"{session.epochs} epochs of {steps:,} batches of {config.batch_size}, {rate}, on {session.device} "
        f"({config.executor}), seed {config.seed}, into {session.out}; errors below are those of the "
        f"{'network' if shape.peers == 1 else 'leader' if session.headline == 'leader' else 'mean student'}",
    )


def _sentence(line: EpochLine) -> str:
    record = line.record
    figure = "" if line.figure == "error" else f" {FIGURES[line.figure]} {line.validation_figure:.2f} %,"
    return (
        f"epoch {record.epoch}/{line.epochs}: training error {line.training_error:.2f} %, validation error "
        f"{line.validation_error:.2f} %,{figure} loss {record.loss_per_student:.4f}, learning rate {record.lr:.3g}, "
        f"{record.images_per_second:,.0f} images/s, {plain_duration(line.left)} left"
    )
