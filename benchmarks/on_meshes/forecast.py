"""What the model says for 1 to 1,024 devices: times of a step by mesh, and where which mesh is the faster one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codistill.execution.world import Mesh
from on_meshes.costs import GROUPS, Student
from on_meshes.model import Cluster, Job, Link, bytes_sent, step_seconds

__all__ = [
    "BATCH",
    "BATCHES",
    "CLASSES",
    "DEVICES",
    "IMAGE",
    "PER_DEVICE",
    "Row",
    "Scenario",
    "crossover",
    "jobs",
    "rows",
    "scenarios",
    "traffic",
]

DEVICES = tuple(2**k for k in range(11))
BATCH, CLASSES, IMAGE = 256, 1000, (3, 224, 224)
PER_DEVICE = 64
"""Images per device where the batch grows with the devices: four of them share the batch of one network, 256."""
BATCHES: dict[str, Callable[[int], int]] = {
    "fixed": lambda devices: BATCH,
    "growing": lambda devices: PER_DEVICE * devices,
}


@dataclass(frozen=True)
class Row:
    """Seconds of a step on a number of devices; None where the batch has too few images.

    Attributes:
        devices: number of them.
        peers: students on devices of their own, as far as there are devices; the rest divides the batch.
        data: all students on every device, and the batch divided among all, with the executor's exchange.
        plain: the same without any exchange of outputs, where the method's loss of an image needs that image alone.
        best: the fastest mesh with an exchange.
    """

    devices: int
    peers: float | None
    data: float | None
    plain: float | None
    best: Mesh | None


def rows(job: Job, growth: str, cluster: Cluster) -> list[Row]:
    """One row for each number of devices."""
    found = []
    for devices in DEVICES:
        given = job.with_batch(BATCHES[growth](devices))
        sizes = [p for p in (1, 2, 4) if p <= min(devices, len(job.students))]
        times = {p: step_seconds(given, Mesh(devices // p, p), cluster) for p in sizes}
        possible = {p: seconds for p, seconds in times.items() if seconds is not None}
        best = min(possible, key=lambda p: possible[p]) if possible else None
        plain = step_seconds(replace(given, exchange=False), Mesh(devices, 1), cluster)
        mesh = None if best is None else Mesh(devices // best, best)
        found.append(Row(devices, times[sizes[-1]], times[1], plain, mesh))
    return found


def crossover(found: Sequence[Row], rival: str) -> str:
    """The numbers of devices, above one, on which students on devices are faster than "data" or "plain".

    Where a batch cannot be divided among so many replicas, the mesh that can is the faster one.
    """
    faster: list[list[int]] = []
    before = False
    for row in found:
        other = getattr(row, rival)
        wins = row.devices > 1 and row.peers is not None and (other is None or row.peers < other)
        if wins and not before:
            faster.append([row.devices])
        elif wins:
            faster[-1].append(row.devices)
        before = wins
    return ", ".join(f"{r[0]:,}" if len(r) == 1 else f"{r[0]:,} to {r[-1]:,}" for r in faster) or "none"


@dataclass(frozen=True)
class Scenario:
    """The model with one assumption changed.

    Attributes:
        name: what is changed.
        cluster: the rates.
        sync_norms: whether batch norms see the whole batch.
    """

    name: str
    cluster: Cluster
    sync_norms: bool = True


def scenarios(cluster: Cluster, tree: float) -> list[Scenario]:
    """The assumptions as stated, and each of those that matter changed; `tree`: seconds of a step along a tree."""
    link = cluster.link
    slow = [replace(cluster, link=Link(link.bandwidth / by, link.latency)) for by in (10, 100)]
    return [
        Scenario("as stated", cluster),
        Scenario("batch norms apart (`--no-sync-batch-norm`)", cluster, sync_norms=False),
        Scenario("messages start along a tree", replace(cluster, link=replace(link, tree=tree))),
        Scenario("both of these", replace(cluster, link=replace(link, tree=tree)), sync_norms=False),
        Scenario("a tenth of the bandwidth", slow[0]),
        Scenario("a hundredth of the bandwidth", slow[1]),
        Scenario("no time of the host (CUDA graphs)", replace(cluster, layer=0.0)),
        Scenario("no overlap of gradients", replace(cluster, overlap=0.0)),
    ]


def jobs(students: dict[str, Student]) -> dict[tuple[str, str], Job]:
    """(group, what the method reads) -> job."""
    return {
        (group, reads): Job(tuple(students[name] for name in names), CLASSES, BATCH, features=reads == "OKDDip")
        for group, names in GROUPS.items()
        for reads in ("logits", "OKDDip")
    }


def traffic(job: Job, devices: int = 4) -> tuple[int, int, int]:
    """Bytes that a process sends in a step: one student on each device; plain data parallelism; that with the rest.

    The second sends gradients alone; the third the outputs and the statistics of batch norms as well.
    """
    data = Mesh(devices, 1)
    plain = replace(job, exchange=False, sync_norms=False)
    return tuple(  # pyright: ignore[reportReturnType]
        sum(bytes_sent(one, mesh).values()) for one, mesh in ((job, Mesh(1, devices)), (plain, data), (job, data))
    )
