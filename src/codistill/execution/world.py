"""The processes that train one run together: a mesh of data x peer, and what they say to each other besides outputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from codistill.errors import UserError

__all__ = ["Mesh", "Traffic", "World", "choose_mesh", "share_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Mesh:
    """How many processes share the images of a batch (data), times how many share the students (peer).

    Process r has the rows of `r // peer` and the students of `r % peer`.
    """

    data: int = 1
    peer: int = 1

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.data * self.peer

    def __str__(self) -> str:
        return f"data={self.data},peer={self.peer}"

    @classmethod
    def parse(cls, text: str) -> Mesh:
        """Read "data=2,peer=2"; what is left out is 1. UserError for any other form."""
        sizes: dict[str, int] = {}
        for item in text.split(","):
            name, _, size = item.strip().partition("=")
            if (
                name not in ("data", "peer")
                or name in sizes
                or not (size.isascii() and size.isdigit())
                or int(size) < 1
            ):
                raise UserError(f"mesh {text!r}: give the sizes of both axes, such as data=2,peer=2, or auto.")
            sizes[name] = int(size)
        return cls(**sizes)


def choose_mesh(text: str, processes: int, peers: int, shares_trunk: bool) -> Mesh:
    """Return the mesh that `text` asks for; "auto" gives students processes of their own first, then divides batches.

    Args:
        text: "auto", or as for `Mesh.parse`.
        processes: how many there are.
        peers: number of students.
        shares_trunk: whether they are branches or a tree, which stay together.

    Raises:
        UserError: the sizes do not fit the number of processes or students.
    """
    if text == "auto":
        most = 1 if shares_trunk else min(peers, processes)
        peer = max(n for n in range(1, most + 1) if processes % n == 0)
        return Mesh(processes // peer, peer)
    mesh = Mesh.parse(text)
    if mesh.size != processes:
        raise UserError(
            f"mesh {mesh} needs {mesh.size} processes, and there are {processes}: start torchrun with "
            f"--nproc-per-node {mesh.size} (or as many over all hosts), or give another mesh."
        )
    if mesh.peer > peers:
        raise UserError(f"mesh {mesh} with {peers} students: peer can be 1 to {peers}; use data for the rest.")
    if mesh.peer > 1 and shares_trunk:
        raise UserError(
            f"mesh {mesh} with students that share a trunk: each process would have to run the whole trunk again; give "
            f"data={mesh.size}, or --group networks."
        )
    return mesh


def share_of(count: int, place: int, n: int) -> slice:
    """Which of `count` things the one at `place` of `n` has; the shares differ by at most one."""
    size, more = divmod(count, n)
    start = place * size + min(place, more)
    return slice(start, start + size + (place < more))


@dataclass
class _Sum:
    bytes: Counter[str] = field(default_factory=Counter)
    waited: float = 0.0
    seconds: float = 0.0


class Traffic:
    """Counts what this process sends, and how long it waits for others.

    Bytes are those of ring algorithms among n processes, per process: an all-gather sends n - 1 times the process' own
    part, an all-reduce 2 (n - 1) / n times the tensor, a broadcast the tensor once. Waiting is the time from the start
    of an exchange of outputs to its end, on the clock of the host, which includes the transfer.

    Attributes:
        bytes: kind -> bytes sent so far; the kinds are "outputs", "gradients", "norms", "weights" and "signals".
        waited: seconds.
        steps: training steps.
    """

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.waited, self.steps = 0.0, 0
        self._of_steps, self._before = _Sum(), None

    def begin_step(self) -> None:
        """Count from here on as a training step, until `end_step`."""
        self.steps += 1
        self._before = self._before or _Sum(self.bytes.copy(), self.waited, time.perf_counter())

    def end_step(self) -> None:
        """End the training step."""
        if self._before is not None:
            now, before, sums = _Sum(self.bytes, self.waited, time.perf_counter()), self._before, self._of_steps
            sums.bytes.update(now.bytes - before.bytes)
            sums.waited += now.waited - before.waited
            sums.seconds += now.seconds - before.seconds
            self._before = None

    def per_step(self) -> tuple[dict[str, int], float]:
        """Bytes that a training step sends, by kind, and the share of its time that is waiting."""
        sums, steps = self._of_steps, max(self.steps, 1)
        return {kind: sent // steps for kind, sent in sums.bytes.items()}, sums.waited / (sums.seconds or 1.0)

    def gathered(self, kind: str, own: Tensor, n: int) -> None:
        """Count an all-gather of `own` among n processes."""
        self.bytes[kind] += own.nbytes * (n - 1)

    def reduced(self, kind: str, tensor: Tensor, n: int) -> None:
        """Count an all-reduce among n processes."""
        self.bytes[kind] += 2 * tensor.nbytes * (n - 1) // n

    def sent(self, kind: str, tensor: Tensor) -> None:
        """Count a broadcast of which this process is the source."""
        self.bytes[kind] += tensor.nbytes

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A scope whose time counts as waiting."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - start


class World:
    """This process among those of a mesh; torch.distributed has been initialised with as many.

    Building it is a collective operation: all processes do it, in the same order.

    Args:
        mesh: sizes, whose product is the number of processes.
        device: of this process' networks.

    Attributes:
        rank: number of this process.
        data_rank, peer_rank: its place on each axis.
        replicas: the processes with the same students, which share a batch.
        column: the processes with the same rows, which share the students.
        traffic: what is sent.
    """

    def __init__(self, mesh: Mesh, device: torch.device) -> None:
        if dist.get_world_size() != mesh.size:
            raise UserError(f"mesh {mesh} with {dist.get_world_size()} processes: the sizes must multiply to that.")
        self.mesh, self.device = mesh, device
        self.rank = dist.get_rank()
        self.data_rank, self.peer_rank = divmod(self.rank, mesh.peer)
        axes = init_device_mesh(device.type, (mesh.data, mesh.peer), mesh_dim_names=("data", "peer"))
        self.replicas, self.column = axes.get_group("data"), axes.get_group("peer")
        self.traffic = Traffic()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """The rows of a batch that this process has; sizes differ by at most one."""
        return share_of(batch, self.data_rank, self.mesh.data)

    def own_rows(self, batch: int, rank: int | None = None) -> slice:
        """The rows of a batch that a process (None: this one) has alone: its share of those of its column."""
        data_rank, peer_rank = divmod(self.rank if rank is None else rank, self.mesh.peer)
        rows = share_of(batch, data_rank, self.mesh.data)
        part = share_of(rows.stop - rows.start, peer_rank, self.mesh.peer)
        return slice(rows.start + part.start, rows.start + part.stop)

    def gather(self, own: Tensor) -> Tensor:
        """Parts of the outputs of all processes, [n, ...], which have one shape; no gradient flows."""
        every = own.new_empty(self.mesh.size, *own.shape)
        with self.traffic.waiting():
            dist.all_gather(list(every.unbind()), own)
        self.traffic.gathered("outputs", own, self.mesh.size)
        return every

    def gather_rows(self, own: Tensor, batch: int) -> Tensor:
        """All rows of a batch, of which each process has its `own_rows`; no gradient flows."""
        shares = [self.own_rows(batch, rank) for rank in range(self.mesh.size)]
        size = max(share.stop - share.start for share in shares)
        padded = own.new_zeros(size, *own.shape[1:])
        padded[: len(own)] = own
        every = self.gather(padded)
        return torch.cat([part[: share.stop - share.start] for part, share in zip(every, shares, strict=True)])

    def largest(self, values: Sequence[int]) -> list[int]:
        """The largest of each number over all processes."""
        own = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.all_reduce(own, dist.ReduceOp.MAX)
        self.traffic.reduced("signals", own, self.mesh.size)
        return own.tolist()

    def of_leader(self, value: T | None) -> T:
        """What the writing process has, any object that can be pickled."""
        held: list[Any] = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def gather_on_leader(self, value: T) -> list[T] | None:
        """The objects of all processes, in order, on the writing process; None on the others."""
        found: list[Any] | None = [None] * self.mesh.size if self.leads else None
        dist.gather_object(value, found, dst=0)
        return found

    def spread_to_replicas(self, tensors: Sequence[Tensor]) -> None:
        """Let all replicas have the values of the first one, in place."""
        for tensor in tensors:
            dist.broadcast(tensor, src=self.peer_rank, group=self.replicas)
            if self.data_rank == 0:
                self.traffic.sent("weights", tensor)

    def spread(self, tensors: Sequence[Tensor], peer_rank: int) -> None:
        """Let all processes of each column have the values of the one at `peer_rank`, in place."""
        source = self.data_rank * self.mesh.peer + peer_rank
        for tensor in tensors:
            dist.broadcast(tensor, src=source, group=self.column)
            if source == self.rank:
                self.traffic.sent("weights", tensor)
