"""The page: answers first, then assumptions, times by the model, what its assumptions decide, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from on_meshes.chart import draw
from on_meshes.costs import GROUPS, Student, count_student
from on_meshes.forecast import (
    BATCH,
    BATCHES,
    CLASSES,
    IMAGE,
    PER_DEVICE,
    Row,
    crossover,
    jobs,
    rows,
    scenarios,
    traffic,
)
from on_meshes.measured import Measured, median_ratio
from on_meshes.model import BUCKET, Cluster, Job

__all__ = ["goals_of", "table_line", "write"]

BYTES_GOALS = {"logits": 80, "OKDDip": 50}
"""What the method reads -> how many times fewer bytes are wanted."""
RATE_GOAL, WAITING_GOAL = 0.9, 0.1
GROWTH = {
    "fixed": f"batch of {BATCH}",
    "growing": f"{PER_DEVICE} images per device",
}
MEASURED_HEAD = (
    "| students | mesh | batch norms | step, ms | without messages, ms | model, ms | step ÷ model | "
    "bytes per step and process | model | waiting |\n|---|---|---|---|---|---|---|---|---|---|"
)


def write(out: Path, cluster: Cluster, tree: float, found: Sequence[Measured], facts: Mapping[str, Any]) -> list[str]:
    """Write the page and its chart (.svg next to it).

    Args:
        out: the page.
        cluster: rates of the model.
        tree: seconds of each of log2 n steps where messages start along a tree.
        found: what was measured; may be empty.
        facts: machine, versions, command.

    Returns:
        The answers, and where the page is.
    """
    students = {name: count_student(name, CLASSES, IMAGE) for names in GROUPS.values() for name in dict.fromkeys(names)}
    work = jobs(students)
    tables = {(key, growth): rows(job, growth, cluster) for key, job in work.items() for growth in BATCHES}
    chart = out.with_suffix(".svg")
    chart.parent.mkdir(parents=True, exist_ok=True)
    panels = {f"{key[0]}, {GROWTH[g]}": rs for (key, g), rs in tables.items() if key[1] == "logits"}
    draw(panels, chart)
    answers = [*_byte_goals(work), *_crossovers(tables), *_measured_goals(found)]
    parts = [
        "# Students on devices of their own, or all students on every device",
        _evidence(facts, found),
        "## Answers",
        "\n".join(f"- {answer}" for answer in answers),
        "## Assumptions",
        _assumptions(cluster, tree),
        "## What was counted",
        _counted(students),
        "## Bytes that a process sends in a step, four ResNet-50 on four devices",
        _bytes_table(work),
        "## Time of a step by the model",
        f"![Time of a step against devices]({chart.name})",
        *_time_tables(tables),
        "## What the assumptions decide",
        _what_decides(work, cluster, tree),
        "## Measured on this machine",
        *(_measured(found) if found else ["Left out (`--no-measure`)."]),
    ]
    out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [*answers, f"page: {out}", f"chart: {chart}"]


def goals_of(one: Measured) -> list[str]:
    """The rate against one process with all threads, and the waiting, each with its goal and whether it is reached."""
    middle, least, most = median_ratio(one.loop, one.seconds)
    names, mesh = " + ".join(one.setting.models), f"{one.mesh.data}x{one.mesh.peer}"
    turns = len(one.seconds)
    wait = one.worst_waiting
    return [
        f"{names} as {mesh} (one thread each) against one process with {one.setting.loop_threads} threads (`loop`): "
        f"steps per second {middle:.3f} × ({least:.3f} to {most:.3f}, {turns} turns; {1e3 * median(one.seconds):.0f} "
        f"and {1e3 * median(one.loop):.0f} ms a step); goal ≥ {RATE_GOAL}: {_reached(middle >= RATE_GOAL)}.",
        f"{names} as {mesh}: the process that waits most waits {100 * wait:.1f} % of the step for the other's outputs "
        f"(median); goal ≤ {100 * WAITING_GOAL:.0f} %: {_reached(wait <= WAITING_GOAL)}.",
    ]


def table_line(one: Measured) -> str:
    """One line of the table of what was measured."""
    middle, least, most = median_ratio(one.seconds, one.predicted)
    kinds = ("outputs", "gradients", "norms")
    sent, said = (
        max([{k: r[k] for k in kinds if k in r} for r in ranks], key=lambda r: sum(r.values()))
        for ranks in (one.sent, one.modelled)
    )
    text = ", ".join(f"{kind} {count:,.0f}" for kind, count in sent.items()) or "0"
    norms = "-" if one.mesh.data == 1 else "whole batch" if one.setting.sync else "own rows"
    cells = [
        " + ".join(one.setting.models),
        f"{one.mesh.data}x{one.mesh.peer}",
        norms,
        *(f"{1e3 * median(times):.0f}" for times in (one.seconds, one.alone, one.predicted)),
        f"{middle:.2f} ({least:.2f} to {most:.2f})",
        text,
        "equal" if sent == said else f"{sum(said.values()):,}",
        f"{100 * one.worst_waiting:.1f} %",
    ]
    return f"| {' | '.join(cells)} |"


def _byte_goals(work: Mapping[tuple[str, str], Job]) -> Iterator[str]:
    for reads, goal in BYTES_GOALS.items():
        peers, plain, _ = traffic(work["four ResNet-50", reads])
        yield (
            f"Bytes sent per process and step, four ResNet-50 on four devices, {reads}: {peers:,} as 1x4 peers, "
            f"{plain:,} by data-parallel training (gradients alone): 1/{plain / peers:.1f}; goal ≤ 1/{goal}: "
            f"{_reached(plain >= goal * peers)}."
        )


def _crossovers(tables: Mapping[tuple[tuple[str, str], str], Sequence[Row]]) -> Iterator[str]:
    for ((group, reads), growth), found in tables.items():
        if reads == "logits":
            yield (
                f"By the model, students on devices of their own are faster than all on every device, {group}, "
                f"{GROWTH[growth]}: on {crossover(found, 'data')} devices."
            )


def _measured_goals(found: Sequence[Measured]) -> list[str]:
    return [line for one in found if one.loop for line in goals_of(one)]


def _reached(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def _evidence(facts: Mapping[str, Any], found: Sequence[Measured]) -> str:
    named = ("command", "commit", "date", "processor", "cores", "load")
    lines = [f"| {name} | {facts[name]} |" for name in named if facts.get(name) is not None]
    lines.append(f"| versions | {', '.join(f'{k} {v}' for k, v in facts['versions'].items())} |")
    if found:
        one = found[0].setting
        lines.append(f"| measured | batch {one.batch}, {one.turns} turns of {one.calls} steps; load before the start |")
    return "\n".join(["| evidence | |", "|---|---|", *lines])


def _assumptions(cluster: Cluster, tree: float) -> str:
    link = cluster.link
    lines = [
        (
            "compute",
            f"{cluster.flops / 1e12:g} TFLOP/s per device reached in training; a step counts three forward passes",
            "ResNet-50 on one A100, mixed precision: 2,470 images/s × 3 × 2 × 4.089 G (NVIDIA/DeepLearningExamples, "
            "`PyTorch/Classification/ConvNets/resnet50v1.5/README.md`); used for all networks, though MobileNets reach "
            "less",
        ),
        (
            "host",
            f"{cluster.layer * 1e6:g} µs per convolution, linear layer and batch norm, forward and again backward; a "
            "pass takes this or its compute, whichever is longer",
            "the same page: inference in mixed precision takes 12.8 ms for one image and 14 ms for 16, on V100 and T4 "
            "alike, ÷ 107 layers; that the backward pass takes as long is ours",
        ),
        (
            "bandwidth",
            f"{link.bandwidth / 1e9:g} GB/s per process, the same between any two",
            "all-reduce of 1 to 16 GiB, four nodes of 8 GPUs: bus bandwidth 92 to 94 GB/s (stas00/ml-engineering, "
            "`network/benchmarks/README.md` at 7bc7c30)",
        ),
        (
            "latency",
            f"{link.latency * 1e6:g} µs per step of a ring; along a tree (last table) {tree * 1e6:g} µs for each of "
            "log2 n steps",
            "the same table: 32 KiB at 0.48 GB/s among 32 processes are 68 µs, ÷ 62 steps or ÷ 10",
        ),
        (
            "messages",
            "ring algorithms among n: an all-gather sends n - 1 times the own part in n - 1 steps, an all-reduce "
            "2 (n - 1)/n times the tensor in 2 (n - 1) steps",
            "as `Traffic` counts; a test compares the bytes with those of processes",
        ),
        (
            "gradients",
            f"float32, messages of {BUCKET / 2**20:g} MiB; {100 * cluster.overlap:g} % of the backward pass hides "
            "them, but for the last message",
            "DistributedDataParallel's default; perfect overlap favours data parallelism",
        ),
        ("batch norms", "statistics of the whole batch, one all-gather and one all-reduce per layer", "our default"),
        ("outputs", "float32; all processes get those of all students on the whole batch", "the executor"),
        ("left out", "reading data, the method's loss, the optimizer, stragglers, nodes with faster links inside", ""),
    ]
    return "\n".join(["| what | value | source |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in lines)])


def _counted(students: Mapping[str, Student]) -> str:
    head = "| network | multiply-accumulates per image | parameters | features D | batch norms, channels | layers |"
    lines = [
        f"| {s.name} | {s.macs:,} | {s.parameters:,} | {s.features:,} | {len(s.norms)}, {sum(s.norms):,} | {s.layers} |"
        for s in students.values()
    ]
    groups = "; ".join(f"{group}: {' + '.join(names)}" for group, names in GROUPS.items())
    return "\n".join(
        [f"Images of 224 × 224, {CLASSES:,} classes. {groups}.", "", head, "|---|---|---|---|---|---|", *lines]
    )


def _bytes_table(work: Mapping[tuple[str, str], Job]) -> str:
    head = "| method reads | 1x4 peers | 4x1, gradients alone | ratio | 4x1 with outputs and batch norms | ratio |"
    lines = []
    for reads in BYTES_GOALS:
        peers, plain, data = traffic(work["four ResNet-50", reads])
        lines.append(f"| {reads} | {peers:,} | {plain:,} | 1/{plain / peers:.1f} | {data:,} | 1/{data / peers:.1f} |")
    return "\n".join([head, "|---|---|---|---|---|---|", *lines])


def _time_tables(tables: Mapping[tuple[tuple[str, str], str], Sequence[Row]]) -> Iterator[str]:
    yield (
        "Milliseconds. *Peers*: students on devices of their own as far as there are devices, the rest divides the "
        "batch. *Data*: all students on every device, the batch divided among all. *Plain*: the same without exchange "
        "of outputs, where the loss of an image needs that image alone. *Best*: the fastest mesh, data x peer. A dash: "
        "fewer images than replicas."
    )
    for group in GROUPS:
        for growth, words in GROWTH.items():
            yield f"### {group}, {words}"
            logits, features = (tables[(group, reads), growth] for reads in ("logits", "OKDDip"))
            head = "| devices | peers, logits | peers, OKDDip | data, logits | data, OKDDip | plain | best, logits |"
            lines = [head, "|---|---|---|---|---|---|---|"]
            for a, b in zip(logits, features, strict=True):
                best = "-" if a.best is None else f"{a.best.data}x{a.best.peer}"
                times = " | ".join(_ms(seconds) for seconds in (a.peers, b.peers, a.data, b.data, a.plain))
                lines.append(f"| {a.devices:,} | {times} | {best} |")
            yield "\n".join(lines)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"


def _what_decides(work: Mapping[tuple[str, str], Job], cluster: Cluster, tree: float) -> str:
    columns = [(group, growth) for group in GROUPS for growth in GROWTH]
    lines = [
        "Numbers of devices on which *peers* are faster than *data*, logits; in brackets the gain on 4 and on 64 "
        "devices (time of *data* ÷ time of *peers*).",
        "",
        f"| assumption | {' | '.join(f'{group}, {GROWTH[growth]}' for group, growth in columns)} |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for scenario in scenarios(cluster, tree):
        cells = []
        for group, growth in columns:
            job = replace(work[group, "logits"], sync_norms=scenario.sync_norms)
            found = rows(job, growth, scenario.cluster)
            gains = [r.data / r.peers for r in found if r.devices in (4, 64) and r.data and r.peers]
            cells.append(f"{crossover(found, 'data')} ({', '.join(f'{gain:.2f}' for gain in gains)})")
        lines.append(f"| {scenario.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured(found: Sequence[Measured]) -> list[str]:
    links = ", ".join(
        f"{' + '.join(one.setting.models)} {one.mesh.data}x{one.mesh.peer}: {1e6 * one.latency:.0f} µs, "
        f"{one.bandwidth / 1e9:.2f} GB/s"
        for one in found
        if one.latency is not None and one.bandwidth is not None and one.setting.sync
    )
    return [
        "One thread per process, gloo, random images of 32 × 32, 100 classes, DML. *Without messages*: the same "
        "networks and rows in the same processes at the same time, each by itself. *Model*: that and the messages one "
        "after the other, with latency and bandwidth of all-gathers and all-reduces of 1 KiB to 4 MiB, measured in the "
        "same launch. Medians; ratios are those of each turn. *Waiting*: of the process that waits most. Where there "
        "are more processes than cores, they share the cores.",
        "\n".join([MEASURED_HEAD, *map(table_line, found)]),
        f"All-gathers, latency per step and bandwidth: {links}.",
    ]
