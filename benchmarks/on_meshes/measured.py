"""Small meshes on this machine, against the model with rates that are measured in the same launch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codistill.execution.world import Mesh
from on_meshes.costs import count_student
from on_meshes.launching import fitted, launch
from on_meshes.model import Job, bytes_sent, seconds_of_messages
from on_meshes.setting import Launch

__all__ = ["Measured", "measured", "median_ratio", "ratio_only"]

GROUPS = (("resnet32", "resnet32"), ("resnet20", "resnet20"))


@dataclass(frozen=True)
class Measured:
    """One mesh of one group.

    Attributes:
        setting: what was measured.
        mesh: its sizes.
        seconds: of a step in every turn.
        alone: of the same networks and rows in the same processes at the same time, without any message, every turn.
        loop: of a step of one process that runs all students, every turn; empty where it was not measured.
        predicted: seconds by the model: `alone` and the messages, one after the other.
        sent: bytes that each process has sent in a step, by kind.
        modelled: the same by the model.
        waiting: of each process: share of the step that it has waited for the others' outputs, every turn.
        latency, bandwidth: of an all-gather in this launch, seconds and bytes per second; None in a single process.
    """

    setting: Launch
    mesh: Mesh
    seconds: list[float]
    alone: list[float]
    loop: list[float]
    predicted: list[float]
    sent: list[dict[str, float]]
    modelled: list[dict[str, int]]
    waiting: list[list[float]]
    latency: float | None
    bandwidth: float | None

    @property
    def worst_waiting(self) -> float:
        """The median over the turns of the process that waits most."""
        return max(statistics.median(shares) for shares in self.waiting)


def ratio_only(setting: Launch) -> Measured:
    """Two ResNet-32 as 1x2 and by one process with two threads, in turns within one launch."""
    given = replace(setting, models=GROUPS[0], mesh="data=1,peer=2", loop_threads=2)
    return _read(given, launch([given])[0])


def measured(setting: Launch) -> Iterator[Measured]:
    """Every mesh, launch by launch; of the setting count batch, turns, calls and threads."""
    launches: list[list[Launch]] = [[], [], []]
    for names in GROUPS:
        given = replace(setting, models=names)
        launches[0].append(replace(given, mesh="data=1,peer=1"))
        launches[1].append(replace(given, mesh="data=1,peer=2", loop_threads=2))
        launches[1] += [replace(given, mesh="data=2,peer=1", sync=sync) for sync in (True, False)]
        launches[2].append(replace(given, mesh="data=2,peer=2"))
    for settings in launches:
        for one, found in zip(settings, launch(settings), strict=True):
            yield _read(one, found)


def _read(setting: Launch, found: dict[str, Any]) -> Measured:
    mesh, times, each = Mesh.parse(setting.mesh), found["times"], found["each"]
    students = tuple(count_student(name, setting.classes, setting.image) for name in setting.models)
    job = Job(students, setting.classes, setting.batch, sync_norms=setting.sync)
    gather = reduce = None
    messages = 0.0
    if mesh.size > 1:
        gather = fitted(found["messages"]["gather"], mesh.size, reduce=False)
        reduce = fitted(found["messages"]["reduce"], mesh.size, reduce=True)
        kinds = [seconds_of_messages(job, mesh, gather, reduce, peer_rank) for peer_rank in range(mesh.peer)]
        messages = max(sum(seconds for kind, seconds in of.items() if kind != "last gradients") for of in kinds)
    return Measured(
        setting,
        mesh,
        times["mesh"],
        times["alone"],
        times.get("loop", []),
        [seconds + messages for seconds in times["alone"]],
        [process["sent"] for process in each],
        [dict(bytes_sent(job, mesh, rank % mesh.peer)) for rank in range(mesh.size)],
        [process["waiting"] for process in each],
        None if gather is None else gather.latency,
        None if gather is None else gather.bandwidth,
    )


def median_ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most of the turns' ratios."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
