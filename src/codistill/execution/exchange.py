"""The outputs of all students on the whole batch, gathered from the processes that have made them.

Every process gets all of them, computes the same loss, and keeps of its gradient what belongs to its own students and
rows. So no gradient of an output is ever sent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from codistill.execution.world import World
from codistill.types import PeerOutputs

__all__ = ["Exchange"]

ALIGNED = 16
"""Each tensor of a message starts at a multiple of this many bytes."""


class Exchange:
    """Gathers outputs over a mesh.

    Args:
        world: the processes.
        placed: the students of each process of a column.
    """

    def __init__(self, world: World, placed: Sequence[Sequence[int]]) -> None:
        self.world, self.placed = world, placed
        order = [peer for peers in placed for peer in peers]
        self._order = None if order == sorted(order) else [order.index(peer) for peer in range(len(order))]
        self._plans: dict[Hashable, _Plan] = {}

    def gather(self, own: PeerOutputs, batch: int, key: Hashable) -> PeerOutputs:
        """Return the outputs of all students on the whole batch; gradient flows back into this process' own.

        The gradient that arrives there is multiplied by the number of replicas, since these average theirs.

        Args:
            own: of this process' students, on its rows.
            batch: rows of the whole batch.
            key: equal on all processes; with the same key, shapes and types are the same again.
        """
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._new_plan(own, batch)
        tensors = own.every()
        joined = _Gather.apply(self, plan, *tensors)
        assert isinstance(joined, tuple)
        return plan.whole.filled(joined)

    def _new_plan(self, own: PeerOutputs, batch: int) -> _Plan:
        found: list[Any] = [None] * self.world.mesh.size
        dist.all_gather_object(found, own.map(lambda tensor: tensor.detach().to("meta")))
        rows = self.world.rows(batch)
        return _Plan(tuple(found), self._joined(found), rows, max(map(_size, found)))

    def _joined(self, parts: Sequence[PeerOutputs]) -> PeerOutputs:
        columns = self.world.mesh.peer
        by_rows = [parts[start : start + columns] for start in range(0, len(parts), columns)]
        whole = PeerOutputs.cat([PeerOutputs.stack(part) for part in by_rows])
        return whole if self._order is None else whole.part(self._order)

    def exchange(self, plan: _Plan, tensors: Sequence[Tensor]) -> PeerOutputs:
        """Send these tensors, and return the joined ones of all processes."""
        own = torch.zeros(plan.size, dtype=torch.uint8, device=tensors[0].device)
        for tensor, place in zip(tensors, _places(tensors), strict=True):
            own[place].view(tensor.dtype).copy_(tensor.detach().reshape(-1))
        each = self.world.gather(own)
        return self._joined([_unpacked(message, part) for message, part in zip(each, plan.parts, strict=True)])

    def own_part(self, plan: _Plan, whole: PeerOutputs) -> PeerOutputs:
        """What belongs to this process' students and rows."""
        return whole.part(self.placed[self.world.peer_rank], plan.rows)


@dataclass(frozen=True)
class _Plan:
    """Shapes and types, as tensors without values.

    Attributes:
        parts: of the outputs of each process.
        whole: of the joined outputs.
        rows: of this process.
        size: bytes of a message.
    """

    parts: tuple[PeerOutputs, ...]
    whole: PeerOutputs
    rows: slice
    size: int


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exchange: Exchange, plan: _Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        whole = exchange.exchange(plan, tensors)
        ctx.exchange, ctx.plan = exchange, plan
        learning = {id(tensor) for tensor in whole.tensors()}
        joined = whole.every()
        ctx.mark_non_differentiable(*(tensor for tensor in joined if id(tensor) not in learning))
        return tuple(joined)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        part = ctx.exchange.own_part(ctx.plan, ctx.plan.whole.filled(gradients))
        return None, None, *(tensor * ctx.exchange.world.mesh.data for tensor in part.every())


def _places(tensors: Sequence[Tensor]) -> list[slice]:
    found, start = [], 0
    for tensor in tensors:
        found.append(slice(start, start + tensor.numel() * tensor.element_size()))
        start += -(-tensor.numel() * tensor.element_size() // ALIGNED) * ALIGNED
    return found


def _size(outputs: PeerOutputs) -> int:
    return -(-_places(outputs.every())[-1].stop // ALIGNED) * ALIGNED


def _unpacked(message: Tensor, part: PeerOutputs) -> PeerOutputs:
    like = part.every()
    values = [
        message[place].view(tensor.dtype).view(tensor.shape) for tensor, place in zip(like, _places(like), strict=True)
    ]
    return part.filled(values)
