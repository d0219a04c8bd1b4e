"""The page: answers first, then assumptions, times by the model, what its assumptions decide, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from on_meshes.assumptions import assumptions, counted
from on_meshes.chart import draw
from on_meshes.costs import GROUPS, count_student
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
from on_meshes.model import Cluster, Job

__all__ = ["busy_machine", "goals_of", "table_line", "write"]

BYTES_GOALS = {"logits": 80, "OKDDip": 50}
"""What the method reads -> how many times fewer bytes are wanted."""
GAINS = (4, 64)
"""Numbers of devices for which a gain is printed."""
BUSY = 0.25
"""Load per core above which the machine counts as busy."""
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
        assumptions(cluster, tree),
        "## What was counted",
        counted(students),
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


def busy_machine(facts: Mapping[str, Any]) -> str | None:
    """What is to be said of times if other programs were running before the start; None if hardly any were."""
    load, cores = facts.get("load"), facts.get("cores")
    if load is None or cores is None or load < BUSY * cores:
        return None
    return f"the load was {load:.1f} on {cores} cores before the start: times are preliminary, measure again when idle"


def table_line(one: Measured) -> str:
    """One line of the table of what was measured."""
    middle, least, most = median_ratio(one.seconds, one.predicted)
    kinds = ("outputs", "gradients", "norms")
    sent, said = (
        max([{k: r[k] for k in kinds if r.get(k)} for r in ranks], key=lambda r: sum(r.values()))
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
                f"{GROWTH[growth]}: on {crossover(found, 'data')} devices (of 2 to {found[-1].devices:,}); "
                f"{_gains(found)}."
            )


def _gains(found: Sequence[Row]) -> str:
    gains = {r.devices: r.data / r.peers for r in found if r.devices in GAINS and r.data and r.peers}
    return ", ".join(f"{gain:.2f} × on {devices:,}" for devices, gain in gains.items())


def _measured_goals(found: Sequence[Measured]) -> list[str]:
    return [line for one in found if one.loop for line in goals_of(one)]


def _reached(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def _evidence(facts: Mapping[str, Any], found: Sequence[Measured]) -> str:
    named = ("command", "commit", "date", "processor", "cores", "load")
    values = {name: facts[name] for name in named if facts.get(name) is not None}
    lines = [f"| {name} | {round(v, 1) if isinstance(v, float) else v} |" for name, v in values.items()]
    lines.append(f"| versions | {', '.join(f'{k} {v}' for k, v in facts['versions'].items())} |")
    if found:
        one = found[0].setting
        lines.append(f"| measured | batch {one.batch}, {one.turns} turns of {one.calls} steps |")
        if busy := busy_machine(facts):
            lines.append(f"| preliminary | {busy} |")
    return "\n".join(["| evidence | |", "|---|---|", *lines])


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
        "Numbers of devices on which *peers* are faster than *data*, logits, and how many times as fast they are on "
        "some (time of *data* ÷ time of *peers*; below 1 they are slower).",
        "",
        f"| assumption | {' | '.join(f'{group}, {GROWTH[growth]}' for group, growth in columns)} |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for scenario in scenarios(cluster, tree):
        cells = []
        for group, growth in columns:
            job = replace(work[group, "logits"], sync_norms=scenario.sync_norms)
            found = rows(job, growth, scenario.cluster)
            cells.append(f"{crossover(found, 'data')}<br>{_gains(found)}")
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
