"""What the terminal shows: tables of scores, plans and lists."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.padding import Padding
from rich.table import Table

from codistill.errors import notes_of
from codistill.rundir import FIGURES
from codistill.terminal import Console, styled

if TYPE_CHECKING:
    from codistill.training import RunResult
    from codistill.training.dry_run import DryRun

__all__ = [
    "plain_duration",
    "plan_table",
    "print_entries",
    "print_interrupted",
    "print_lines",
    "print_models",
    "print_result",
    "print_studies",
    "score_table",
]


def score_table(record: Mapping[str, Any], title: str) -> Table:
    """Return the table of one evaluation record, in 80 columns: students, their mean, leader, ensembles."""
    # Only what is recorded: top-5 error from six classes on, AUROC as headline, the rest not in older runs.
    figures = [figure for figure in FIGURES if figure != "error" and record["leader"].get(figure) is not None]
    columns = {"top-1 error %": "top1_error"}
    columns |= {"top-5 error %": "top5_error"} if record["leader"]["top5_error"] is not None else {}
    columns |= {f"{FIGURES[figure]} %": figure for figure in figures} | {"NLL": "nll", "ECE %": "ece"}
    table = _compact_table(title=title, title_justify="left")
    table.add_column(overflow="fold")  # alone gives way on a narrower terminal
    for heading in columns:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    rows = [(f"student {p}", score) for p, score in enumerate(record["peers"])]
    if len(rows) == 1:
        rows = [("network", record["leader"])]
    else:
        rows += [("mean of students", record["mean"]), (f"leader (student {record['leader_peer']})", record["leader"])]
        rows += [("ensemble (mean probability)", record["ensemble"])]
        rows += [("ensemble (mean logit)", record["ensemble_logits"])]
        rows += [("ensemble (the method's own)", record["ensemble_own"])] if record.get("ensemble_own") else []
    for name, score in rows:
        table.add_row(name, *(_number(score[key], 4 if key == "nll" else 2) for key in columns.values()))
    return table


def _compact_table(**options: Any) -> Table:
    """A table that leaves as much as it can of 80 columns to its cells."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, **options)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plan_table(plan: DryRun) -> Table:
    """Return the table of a dry run: the group, its parameters, memory and arithmetic."""
    from codistill.tracing.cost import TRAINING_FORWARDS  # late: it imports torch

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
        "multiply-accumulates": f"{plan.step_macs / 1e9:,.3f} G per step: {TRAINING_FORWARDS} x the "
        f"{plan.forward_macs / 1e9:,.3f} G of a forward pass (backward counts as two){alternating}",
    }
    table = Table(show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print plain lines, each of which the terminal may wrap."""
    for line in lines:
        console.print(line, soft_wrap=True)


def print_interrupted(console: Console, arguments: Sequence[str], stop: KeyboardInterrupt) -> None:
    """Say how to continue after an interruption.

    Args:
        console: where to print.
        arguments: of the command line.
        stop: with a note from training, if that had begun.
    """
    command = arguments[0] if arguments else ""
    advice = "; ".join(("interrupted", *notes_of(stop)))
    if not notes_of(stop) and command in ("train", "resume"):
        advice += " before the first step; the same command starts again"
    elif command in ("study", "compare"):
        advice += "; to continue with the runs that are not done: " + shlex.join(["codistill", *arguments])
    console.print(advice, soft_wrap=True)


def print_result(console: Console, result: RunResult, report: Path) -> None:
    """Print the scores of a finished run, its headline, and what can be done next."""
    summary, run = result.summary, shlex.quote(str(result.run_dir))
    last, selected = summary["last"], summary["selected"]
    console.print(score_table(last["test"], f"test set, last epoch ({last['epoch']})"))
    lines = [_deployed(summary), *_figure(summary), *_others(summary)]
    if selected["epoch"] != last["epoch"]:
        error = selected["test"]["leader"]["top1_error"]
        lines.append(f"With the weights of epoch {selected['epoch']}, which was selected on validation: {error:.2f} %.")
    commands = {
        f"codistill report {run}": f"the report again (it is in {report})",
        f"codistill evaluate {run}": "the scores again, also with --split validation or --data-dir OTHER",
        f"codistill predict {run} PICTURES": "the classes of pictures, in files or folders",
        f"codistill export {run}": "the student to deploy, as a plain network, or with --format onnx",
    }
    width = max(map(len, commands))
    lines += ["Next:", *(f"  {command:{width}}  {what}" for command, what in commands.items())]
    print_lines(console, lines)


def _deployed(summary: Mapping[str, Any]) -> str:
    last, leader = summary["last"], summary["leader"]
    alone = summary["peers"] == 1
    who = "The network has" if alone else f"Student {leader['peer']} ({leader['rule']}) is the one to deploy:"
    test, validation = (last[part]["leader"]["top1_error"] for part in ("test", "validation"))
    return (
        f"{who} {test:.2f} % test error on {last['test']['images']:,} images, and {validation:.2f} % on the "
        f"{last['validation']['images']:,} validation images."
    )


def _figure(summary: Mapping[str, Any]) -> list[str]:
    """The headline figure of the same student, where that is not the error."""
    figure = summary["figure"]
    if figure == "error":
        return []
    test, validation = (summary["last"][part]["leader"][figure] for part in ("test", "validation"))
    return [f"Its {FIGURES[figure]}, the headline, is {test:.2f} % on the test and {validation:.2f} % on validation."]


def _others(summary: Mapping[str, Any]) -> list[str]:
    if summary["peers"] == 1:
        return []
    test = summary["last"]["test"]
    counts = "the leader counts in" if summary["headline"] == "leader" else "the mean counts in"
    return [
        f"The ensemble of all {summary['peers']} has {test['ensemble']['top1_error']:.2f} %, the mean of the students "
        f"{test['mean']['top1_error']:.2f} % ({counts} comparisons)."
    ]


def print_entries(console: Console, rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """Print each row as its name and its `text`, with all other entries on the line below."""
    for row in rows:
        console.print(styled((row["name"], "bold"), f"  {row[text]}"))
        rest = {k: v for k, v in row.items() if k not in ("name", text) and v not in (None, {})}
        line = ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in rest.items())
        console.print(Padding(line, (0, 0, 0, 4)), style="dim")


def print_models(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the named networks in 80 columns; --json prints all numbers in full."""
    table = _compact_table()
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
        "MACs: multiply-accumulates per image; width: length of the feature vector; split: where branches begin by "
        "default; " + ", ".join(f"{count:,} classes at {size} pixels" for size, count in classes.items()),
        style="dim",
    )
    console.print(
        "--model also takes torchvision:NAME and timm:NAME (any of their classification networks; timm must be "
        "installed), and path/to/file.py:NAME for a function of yours that returns a network.",
    )


def print_studies(
    console: Console, studies: Sequence[Mapping[str, Any]], estimates: Sequence[Mapping[str, Any]]
) -> None:
    """Print every study with the rows and columns of its table, its runs and the hours that they take."""
    for study, estimate in zip(studies, estimates, strict=True):
        console.print(styled((study["name"], "bold"), f"  {study['title']}"))
        hours = {**estimate["hours"], "gpu": estimate["gpu_profile_hours"], "paper": estimate["gpu_hours"]}
        thread, device = "a CPU thread", f"one {estimate['gpu']}"
        of = {"smoke": thread, "cpu": thread, "gpu": device, "paper": device}
        taken = (f"{p} {n} runs, {_rough_time(hours[p])} of {of[p]}" for p, n in estimate["runs"].items())
        lines = ("; ".join(taken), f"rows: {', '.join(study['rows'])}", f"columns: {', '.join(study['columns'])}")
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 4)), style="dim")


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


def plain_duration(seconds: float) -> str:
    """Return a time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
