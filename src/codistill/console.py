"""What the terminal shows: live progress of a run, tables of scores and of lists."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from codistill.training import RunResult
from codistill.training.batches import leftover
from codistill.training.config import OWN_DATA
from codistill.training.loggers import Silent
from codistill.training.plan import TRAINING_FORWARDS, Plan
from codistill.training.session import Session

__all__ = [
    "RunProgress",
    "plain_duration",
    "plan_table",
    "print_entries",
    "print_interrupted",
    "print_models",
    "print_result",
    "print_studies",
    "score_table",
]


class RunProgress(Silent):
    """A bar with run, epoch, validation error and time left; one line an epoch where the output is no terminal."""

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
        config, shape = session.config, session.group.shape
        data = "own data" if config.data == OWN_DATA else config.data
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
                f"{left} of the {len(session.splits.train_N):,} training images fill no whole batch of "
                f"{config.batch_size} and are left out, others in every epoch; --last-batch keep trains on them",
                highlight=False,
                soft_wrap=True,
            )

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """Move the bar."""
        assert self.task is not None
        self.bar.update(self.task, completed=session.epoch + step / steps, epoch=session.epoch + 1)

    def on_epoch(self, session: Session, record: dict[str, Any]) -> None:
        """Show the validation error; print a line where there is no bar."""
        assert self.task is not None
        validation = record["validation"]
        error = f"validation error {validation['leader']['top1_error']:.2f} %, mean {_mean(validation):.2f} %"
        self.bar.update(self.task, completed=session.epoch, error=error)
        if not self.console.is_terminal:
            done = session.epoch - self.first
            left = (time.perf_counter() - self.began) / done * (session.epochs - session.epoch)
            self.console.print(
                f"{session.config.label}  epoch {session.epoch}/{session.epochs}  {error}  "
                f"loss {record['train']['loss']:.4f}  {record['seconds']:.1f} s  {plain_duration(left)} left",
                highlight=False,
                soft_wrap=True,
            )
        for concern in record["concerns"]:
            self.console.print(f"[yellow]epoch {session.epoch}:[/] {escape(concern)}", highlight=False, soft_wrap=True)

    def on_end(self, session: Session, summary: dict[str, Any]) -> None:
        """Stop the bar."""
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()


def score_table(record: Mapping[str, Any], title: str) -> Table:
    """The table of one evaluation record: every peer, their mean, the leader, the ensembles."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "top-1 error %", "top-5 error %", "NLL", "ECE %"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = [(f"student {p}", score) for p, score in enumerate(record["peers"])]
    if len(rows) == 1:
        rows = [("network", record["leader"])]
    else:
        rows += [("mean of students", record["mean"]), (f"leader (student {record['leader_peer']})", record["leader"])]
        rows += [("ensemble (mean probability)", record["ensemble"])]
        rows += [("ensemble (mean logit)", record["ensemble_logits"])]
        rows += [("ensemble (the method's own)", record["ensemble_own"])] if record.get("ensemble_own") else []
    for name, score in rows:
        top5 = "-" if score["top5_error"] is None else f"{score['top5_error']:.2f}"
        table.add_row(name, f"{score['top1_error']:.2f}", top5, f"{score['nll']:.4f}", f"{score['ece']:.2f}")
    return table


def plan_table(plan: Plan) -> Table:
    """The table of a dry run: the group, its parameters, memory and arithmetic."""
    config = plan.config
    channels, height, width = plan.image
    students = f"{len(plan.models)} x {plan.models[0]}" if len(set(plan.models)) == 1 else ", ".join(plan.models)
    forks = ", ".join(f"{children} from {split!r} on" for split, children in plan.splits.items())
    method = f" ({plan.method_parameters:,} of them the method's)" if plan.method_parameters else ""
    alternating = f", for each of {plan.updates} updates" if plan.updates > 1 else ""
    images = f"{config.batch_size} images of {channels} x {height} x {width}"
    rows = {
        "group": f"{config.label}: {students}" + (f"; {forks}" if forks else ""),
        "batch": f"{images}, {plan.classes} classes, on {config.device}",
        "parameters in training": f"{plan.training:,}{method}",
        "parameters deployed": " or ".join(f"{count:,}" for count in dict.fromkeys(plan.deployed)) + " (one student)",
        "activations": f"{plan.held_bytes / 2**20:,.1f} MiB held for backward, all students at once",
        "multiply-accumulates": f"{plan.step_macs / 1e9:,.3f} G a step: {TRAINING_FORWARDS} x the "
        f"{plan.forward_macs / 1e9:,.3f} G of a forward pass (backward counts as two){alternating}",
    }
    table = Table(show_header=False)
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return table


def print_interrupted(console: Console, command: Sequence[str]) -> None:
    """Say how the command (its name, or nothing) goes on after an interruption."""
    advice = {
        "train": "; 'codistill resume RUN' goes on from the last whole epoch",
        "resume": "; 'codistill resume RUN' goes on from the last whole epoch",
        "study": "; the same command goes on where the runs are",
    }
    console.print("interrupted" + advice.get("".join(command), ""), highlight=False)


def print_result(console: Console, result: RunResult, report: Path) -> None:
    """The scores of a finished run, its headline, and where its files lie."""
    last, selected = result.summary["last"], result.summary["selected"]
    console.print(score_table(last["test"], f"test set, last epoch ({last['epoch']})"))
    headline = "mean of students" if result.summary["headline"] == "mean" else "leader"
    error = selected["test"][result.summary["headline"]]["top1_error"]
    console.print(
        f"headline: {headline}, last epoch: {result.test_error:.2f} % top-1 error on "
        f"{last['test']['images']:,} test images (epoch {selected['epoch']}, selected on validation: {error:.2f} %)\n"
        f"run: {result.run_dir}\nreport: {report}",
        highlight=False,
        soft_wrap=True,
    )


def print_entries(console: Console, rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """Each row as its name, its `text` and, below, all else that it has."""
    for row in rows:
        console.print(f"[bold]{row['name']}[/]  {escape(row[text])}", highlight=False)
        rest = {k: v for k, v in row.items() if k not in ("name", text) and v not in (None, {})}
        line = ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in rest.items())
        console.print(Padding(escape(line), (0, 0, 0, 4)), highlight=False, style="dim")


def print_models(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """The named networks, narrow enough for 80 columns; --json has all numbers in full."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for heading in ("parameters", "MACs", "width", "pixels"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("split", no_wrap=True)
    for row in rows:
        counts = f"{row['parameters']:,}", f"{row['multiply_accumulates'] / 1e6:,.1f} M", f"{row['feature_width']:,}"
        table.add_row(row["name"], *counts, str(row["image_size"]), row["default_split"] or "-")
    console.print(table)
    classes = {row["image_size"]: row["classes"] for row in rows}
    console.print(
        "MACs: multiply-accumulates of one image; width: of the features; split: where branches begin by default; "
        + ", ".join(f"{count:,} classes at {size} pixels" for size, count in classes.items()),
        highlight=False,
        style="dim",
    )


def print_studies(
    console: Console, studies: Sequence[Mapping[str, Any]], estimates: Sequence[Mapping[str, Any]]
) -> None:
    """Every study with the rows and columns of its table, its runs, and the hours that they take."""
    for study, estimate in zip(studies, estimates, strict=True):
        console.print(f"[bold]{study['name']}[/]  {escape(study['title'])}", highlight=False)
        hours = {**estimate["hours"], "paper": estimate["gpu_hours"]}
        of = {"smoke": "a CPU thread", "cpu": "a CPU thread", "paper": f"one {estimate['gpu']}"}
        taken = (f"{p} {n} runs, {_rough_time(hours[p])} of {of[p]}" for p, n in estimate["runs"].items())
        lines = ("; ".join(taken), f"rows: {', '.join(study['rows'])}", f"columns: {', '.join(study['columns'])}")
        for line in lines:
            console.print(Padding(escape(line), (0, 0, 0, 4)), highlight=False, style="dim")


def _rough_time(hours: float) -> str:
    unit, size = next((u for u in (("h", 1.0), ("min", 1 / 60)) if hours >= u[1]), ("s", 1 / 3600))
    return f"{hours / size:,.1f} {unit}" if hours < 10 * size else f"{hours / size:,.0f} {unit}"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in value.items())
    return f"{value:,}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean(record: Mapping[str, Any]) -> float:
    return record["mean"]["top1_error"]


def plain_duration(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
