"""A model of one training step on a mesh: bytes from shapes, compute from counted operations, times from a few rates.

Bytes are those that `codistill.execution.world.Traffic` counts, per process: ring algorithms among n processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codistill.execution.exchange import ALIGNED
from codistill.execution.placement import place
from codistill.execution.world import Mesh
from codistill.tracing.cost import TRAINING_FORWARDS
from on_meshes.costs import Student

__all__ = ["BUCKET", "FLOAT", "Cluster", "Job", "Link", "bytes_sent", "seconds_of_messages", "step_seconds"]

FLOAT = 4
"""Bytes of a number: outputs, gradients and statistics are float32."""
BUCKET = 25 * 2**20
"""Bytes of a message of gradients, the default of DistributedDataParallel."""


@dataclass(frozen=True)
class Link:
    """How fast processes are connected.

    Attributes:
        bandwidth: bytes per second that a process sends in a ring.
        latency: seconds of each of the n - 1 steps of a ring.
        tree: seconds of each of log2 n steps, where messages start along a tree; None for a ring.
    """

    bandwidth: float
    latency: float
    tree: float | None = None

    def gather(self, own: float, n: int) -> float:
        """Seconds of an all-gather in which each of n processes has `own` bytes."""
        return self._start(n) + own * (n - 1) / self.bandwidth

    def reduce(self, size: float, n: int) -> float:
        """Seconds of an all-reduce of `size` bytes among n processes."""
        return 2 * self._start(n) + 2 * size * (n - 1) / n / self.bandwidth

    def _start(self, n: int) -> float:
        return (n - 1) * self.latency if self.tree is None else math.ceil(math.log2(n)) * self.tree


@dataclass(frozen=True)
class Cluster:
    """The rates of the model.

    Attributes:
        flops: operations per second that a device reaches in training; a multiply-accumulate is two.
        layer: seconds that the host needs for one layer in a forward pass, and again in the backward pass; a pass takes
            at least this for each layer, however few images there are.
        link: between any two processes.
        overlap: share of the backward pass during which gradients can travel.
    """

    flops: float
    layer: float
    link: Link
    overlap: float = 1.0

    def forward(self, students: Sequence[Student], rows: int) -> float:
        """Seconds of the forward passes of these students, one after the other, on `rows` images."""
        # The host runs ahead of the device, so that the slower one of the two counts over all students.
        return max(2 * rows * sum(s.macs for s in students) / self.flops, self.layer * sum(s.layers for s in students))

    def backward(self, students: Sequence[Student], rows: int) -> float:
        """Seconds of their backward passes."""
        macs = (TRAINING_FORWARDS - 1) * rows * sum(s.macs for s in students)
        return max(2 * macs / self.flops, self.layer * sum(s.layers for s in students))


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        students: of the group.
        classes: C.
        batch: images of a step, over all devices.
        features: whether the method reads the features as well as the logits.
        sync_norms: whether batch norms take their statistics from the whole batch.
        exchange: whether outputs are gathered; without, each replica takes the loss of its own rows, which is plain
            data parallelism and only possible where all students are in one process.
    """

    students: tuple[Student, ...]
    classes: int
    batch: int
    features: bool = False
    sync_norms: bool = True
    exchange: bool = True

    def with_batch(self, batch: int) -> Job:
        """The same with another batch."""
        return replace(self, batch=batch)

    def placed(self, mesh: Mesh) -> list[list[int]]:
        """The students of each process of a column, as the executor deals them out."""
        return place([float(s.macs) for s in self.students], mesh.peer)

    def own(self, mesh: Mesh, peer_rank: int) -> list[Student]:
        """The students of one process."""
        return [self.students[peer] for peer in self.placed(mesh)[peer_rank]]

    def rows(self, mesh: Mesh) -> int:
        """Images of a process, the most that one has."""
        return -(-self.batch // mesh.data)

    def message(self, mesh: Mesh) -> int:
        """Bytes of the outputs of a process; all send as many as the one with the most."""
        return max(self._outputs(self.own(mesh, peer_rank), self.rows(mesh)) for peer_rank in range(mesh.peer))

    def _outputs(self, students: Sequence[Student], rows: int) -> int:
        widths = [len(students) * self.classes, *(s.features for s in students if self.features)]
        return sum(-(-FLOAT * width * rows // ALIGNED) * ALIGNED for width in widths)


def bytes_sent(job: Job, mesh: Mesh, peer_rank: int = 0) -> Counter[str]:
    """Bytes that a process sends in one step, by kind: outputs, gradients, norms."""
    n, own = mesh.data, job.own(mesh, peer_rank)
    sent: Counter[str] = Counter()
    if job.exchange:
        sent["outputs"] = job.message(mesh) * (mesh.size - 1)
    sent["gradients"] = 2 * FLOAT * sum(s.parameters for s in own) * (n - 1) // n
    if job.sync_norms and n > 1:
        for channels in (c for s in own for c in s.norms):
            sent["norms"] += _statistics(channels) * (n - 1) + 2 * _sums(channels) * (n - 1) // n
    return +sent


def seconds_of_messages(job: Job, mesh: Mesh, gather: Link, reduce: Link, peer_rank: int = 0) -> dict[str, float]:
    """Seconds of the messages of one step, one after the other, by kind."""
    n, own = mesh.data, job.own(mesh, peer_rank)
    channels = [c for s in own for c in s.norms] if job.sync_norms and n > 1 else []
    size = FLOAT * sum(s.parameters for s in own)
    buckets = math.ceil(size / BUCKET)
    return {
        "outputs": gather.gather(job.message(mesh), mesh.size) if job.exchange and mesh.size > 1 else 0.0,
        "norms forward": sum(gather.gather(_statistics(c), n) for c in channels),
        "norms backward": sum(reduce.reduce(_sums(c), n) for c in channels),
        "gradients": buckets * reduce.reduce(size / buckets, n) if n > 1 else 0.0,
        "last gradients": reduce.reduce(min(size, BUCKET), n) if n > 1 else 0.0,
    }


def step_seconds(job: Job, mesh: Mesh, cluster: Cluster) -> float | None:
    """Seconds of one step; None where the batch has fewer images than there are replicas.

    Forward passes end with the exchange of outputs, for which all wait; the backward passes end with the last gradient.
    Gradients travel during the backward pass, but for the last message; nothing else overlaps.
    """
    if job.batch < mesh.data:
        return None
    forward = backward = exchange = 0.0
    for peer_rank in range(mesh.peer):
        own, rows = job.own(mesh, peer_rank), job.rows(mesh)
        message = seconds_of_messages(job, mesh, cluster.link, cluster.link, peer_rank)
        exchange = message["outputs"]
        forward = max(forward, cluster.forward(own, rows) + message["norms forward"])
        computing = cluster.backward(own, rows) + message["norms backward"]
        exposed = max(message["gradients"] - cluster.overlap * computing, message["last gradients"])
        backward = max(backward, computing + exposed)
    return forward + exchange + backward


def _statistics(channels: int) -> int:
    """Bytes of a batch norm's means, sums of squares and count."""
    return FLOAT * (2 * channels + 1)


def _sums(channels: int) -> int:
    """Bytes of the two sums of its backward pass."""
    return FLOAT * 2 * channels
