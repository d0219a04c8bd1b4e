"""What the one who deploys it wants to know of a single run: the verdict, errors by class, mistakes, training, cost."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable

from codistill.reports.by_class import class_section, largest_class, mistake_section
from codistill.reports.comparison import Comparison
from codistill.reports.numbers import count, number
from codistill.reports.picture import Picture
from codistill.reports.preface import Preface
from codistill.rundir import FIGURES, Epoch, Run, Summary

__all__ = ["heading_of", "only_run", "prefaces_of"]

CHANCE = 3.0
"""Standard errors between test and validation error from which they differ by more than chance."""

Pick = Callable[[Epoch], float | None]


def only_run(comparison: Comparison) -> Run | None:
    """Return the run of a comparison that has only one."""
    runs = [run for row in comparison.rows for run in row.runs]
    return runs[0] if len(runs) == 1 else None


def heading_of(run: Run) -> str:
    """Return the title of the page of a single run."""
    return f"{run.directory.resolve().name}: {run.label} on {run.data}"


def prefaces_of(run: Run) -> list[Preface]:
    """Return the sections of a single run, finished or not."""
    summary = run.summary
    if summary is None:
        return [section for section in (_unfinished(run), _training(run)) if section is not None]
    sections = (
        _verdict(run, summary), class_section(run, summary), mistake_section(run, summary), _training(run),
        _cost(summary),
    )  # fmt: skip
    return [section for section in sections if section is not None]


def _verdict(run: Run, summary: Summary) -> Preface:
    test = summary.last.test
    text = [_result(summary), _beside(summary)]
    constant = largest_class(test)
    if constant is not None:
        text[0] += f" Always naming the most frequent class would give {number(constant)} %."
    text += [_gap(summary), *_wrong(run), _trained(run, summary)]
    commands = ["# the student to deploy, as a plain network", f"codistill export {shlex.quote(str(run.directory))}"]
    return Preface("In short", [line for line in text if line], notice=True, commands=commands)


def _result(summary: Summary) -> str:
    test, leader = summary.last.test, summary.leader
    who = "The network" if summary.peers == 1 else f"The student to deploy (student {leader.peer}, {leader.rule})"
    low, high = _likely(test.leader.top1_error, test.images)
    return (
        f"{who} has {number(test.leader.top1_error)} % test error on {count(test.images)} images. On many more images "
        f"of the same kind it would be {number(low, 1)} to {number(high, 1)} % (95 % interval)."
    )


def _beside(summary: Summary) -> str:
    last, selected = summary.last, summary.selected
    parts = [f"Its validation error is {number(last.validation.leader.top1_error)} %."]
    if summary.figure != "error":
        test, validation = (part.leader.value(summary.figure) for part in (last.test, last.validation))
        parts.append(
            f"Its {FIGURES[summary.figure]}, by which epoch and leader are chosen, is {number(test)} % on the test and "
            f"{number(validation)} % on the validation images."
        )
    if summary.peers > 1:
        gap = last.test.ensemble.top1_error - last.test.leader.top1_error
        than = f"{number(abs(gap))} points {'less' if gap < 0 else 'more'} than" if round(gap, 2) else "the same as"
        parts.append(
            f"The ensemble of all {summary.peers} students has {number(last.test.ensemble.top1_error)} %, {than} the "
            f"student alone, and runs {summary.peers} networks for it."
        )
    if selected.epoch != last.epoch:
        parts.append(
            f"With the weights of epoch {selected.epoch}, which was selected on validation, the test error is "
            f"{number(selected.test.leader.top1_error)} %."
        )
    return " ".join(parts)


def _gap(summary: Summary) -> str:
    """Say if test and validation error differ by more than chance."""
    test, validation = summary.last.test, summary.last.validation
    p, q = test.leader.top1_error / 100, validation.leader.top1_error / 100
    n, m = max(test.images, 1), max(validation.images, 1)
    pooled = (p * n + q * m) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if p - q <= CHANCE * error:
        return ""
    return (
        f"The test error is {number(100 * (p - q), 1)} points above the validation error, which is more than chance: "
        "the test images are probably harder or of another kind than those in training."
    )


def _wrong(run: Run) -> list[str]:
    said = [f"Epoch {epoch.epoch}: {text}." for epoch in run.metrics for text in epoch.concerns]
    if not said:
        return ["Nothing looked wrong while it trained."]
    return ["Look at this; training went on, but something looked wrong.", *said]


def _trained(run: Run, summary: Summary) -> str:
    images, networks = summary.images, " + ".join(dict.fromkeys(summary.models))
    group = f"{summary.peers} students ({networks}, {summary.group})" if summary.peers > 1 else networks
    early = f", stopped early after epoch {summary.last.epoch}" if summary.stopped_early else ""
    early += f" ({summary.stop_reason})" if summary.stop_reason else ""
    return (
        f"{summary.label}: {group}, {len(summary.classes)} classes, {count(images.train)} training, "
        f"{count(images.validation)} validation and {count(images.test)} test images of {run.data}, "
        f"{summary.epochs} epochs{early}, seed {summary.seed}."
    )


def _likely(error: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an error in percent."""
    z, n, p = 1.96, max(images, 1), error / 100
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)


def _unfinished(run: Run) -> Preface:
    planned = run.config.get("epochs")
    of = f" of {planned}" if isinstance(planned, int) else ""
    text = [f"This run is not finished: {run.epochs_done}{of} epochs are done, and the test images have not been read."]
    if run.metrics:
        text.append(f"The validation error is {number(run.metrics[-1].validation.leader.top1_error)} % so far.")
    text += _wrong(run) if run.metrics else []
    return Preface("No result yet", text, notice=True, commands=[f"codistill resume {shlex.quote(str(run.directory))}"])


def _training(run: Run) -> Preface | None:
    if not run.metrics:
        return None
    # Matplotlib takes half a second to load, and tables do without it.
    from codistill.reports.figures.curves import curve_figure, line_over_seeds
    from codistill.reports.figures.key import key_of
    from codistill.reports.figures.pens import Pen, plain_pens
    from codistill.reports.figures.svg import SMALL

    leads = run.summary is None or run.summary.headline == "leader"
    training, validation = _errors(leads)
    pens: dict[str, Pen] = dict(zip(("training", "validation"), plain_pens(2), strict=True))
    drawn = [line_over_seeds([run], pen, pick) for pen, pick in zip(pens.values(), (training, validation), strict=True)]
    errors = [line for line in drawn if line]
    pictures = []
    if errors:
        alone = len(run.metrics[-1].validation.peers) == 1
        who = "network" if alone else "leader" if leads else "mean student"
        svg = curve_figure(
            errors, "run-errors", f"Training and validation error of the {who} over epochs", y="error, %"
        )
        note = f"Top-1 error of the {who}. Training images are distorted and weights change within an epoch."
        pictures.append(Picture("Training against validation error", svg, note))
    paces: dict[str, tuple[str, Pick]] = {
        "Learning rate": ("learning rate", lambda epoch: epoch.lr),
        "Speed of training": ("images per second", lambda epoch: epoch.images_per_second),
    }
    small = []
    for title, (y, pick) in paces.items():
        line = line_over_seeds([run], plain_pens(3)[2], pick)
        if line:
            svg = curve_figure(
                [line], f"run-{title.split()[0].lower()}", f"{title} over epochs", y=y, width=SMALL, height=255
            )
            small.append(Picture(title, svg))
    return Preface("How training went", key=key_of(pens) if errors else (), pictures=[*pictures, *small], uneven=True)


def _errors(leads: bool) -> tuple[Pick, Pick]:
    def training(epoch: Epoch) -> float:
        errors = epoch.train.error_by_peer
        return errors[epoch.validation.leader_peer] if leads else sum(errors) / len(errors)

    def validation(epoch: Epoch) -> float:
        return epoch.validation.score("leader" if leads else "mean").top1_error

    return training, validation


def _cost(summary: Summary) -> Preface:
    seconds, macs = summary.seconds.training, summary.multiply_accumulates
    deployed = f"The deployed network has {count(summary.parameters.deployed)} parameters"
    took = f"Training took {_time(seconds)} on {summary.machine.device} ({summary.machine.processor})"
    for move in reversed(summary.moves):
        took += f", up to epoch {move.epoch} with {', '.join(f'{name} {value}' for name, value in move.before.items())}"
    shared = _processes(summary)
    if macs is None:
        return Preface("Cost", [f"{deployed}. {took}.", *shared])
    deployed += f" and takes {_millions(macs.deployed)} multiply-accumulates per image"
    if summary.peers > 1:
        took += (
            f", with {number(macs.training / max(macs.deployed, 1), 1)} times the multiply-accumulates of the network "
            "alone; a report of this run next to one with the method baseline compares the times too"
        )
    return Preface("Cost", [f"{deployed}. {took}.", *shared])


def _processes(summary: Summary) -> list[str]:
    """Say how several processes shared the work, what they sent and how long they waited."""
    mesh = None if summary.executor is None else summary.executor.mesh
    if mesh is None:
        return []
    students = "; ".join(", ".join(map(str, peers)) for peers in mesh.placed)
    sent = max(mesh.bytes_per_step, key=lambda each: sum(each.values()), default={})
    kinds = ", ".join(f"{kind} {count(n)}" for kind, n in sorted(sent.items(), key=lambda item: -item[1]) if n)
    waiting = ", ".join(f"{number(100 * share, 0)} %" for share in mesh.waiting)
    return [
        f"It was trained by {mesh.data * mesh.peer} processes: each batch was divided among {mesh.data}, and the "
        f"students among {mesh.peer} ({students}). In a step, the process that sends most sends "
        f"{count(sum(sent.values()))} bytes ({kinds}). Share of the time that each waits for the outputs of others: "
        f"{waiting}."
    ]


def _millions(macs: int) -> str:
    return f"{number(macs / 1e9, 2)} G" if macs >= 1e9 else f"{number(macs / 1e6, 1)} M"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{number(seconds, 0)} s"
    return f"{number(seconds / 60, 0)} min" if seconds < 7200 else f"{number(seconds / 3600, 1)} h"
