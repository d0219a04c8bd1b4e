"""The recompute executor: activation memory of one peer, whatever their number, for one more forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codistill.errors import UserError
from codistill.execution.base import Executor
from codistill.execution.options import ExecutionOptions
from codistill.methods import Method
from codistill.peers import NetworkGroup, PeerGroup, Teachers
from codistill.peers.shared import SharedGroup
from codistill.types import PeerOutputs

__all__ = ["RecomputeExecutor"]


class RecomputeExecutor(Executor):
    """Forward without activations, the method on the outputs, then peer by peer forward again and backward.

    torch.utils.checkpoint does it for each network, branch or inner part of a tree, and replays dropout; running
    statistics are updated once. A trunk that sees one view for all runs once, so that the memory is that of one plain
    network. Results equal those of `loop`, to the bit where the device's kernels repeat theirs.

    Args:
        group: networks, branches or a tree.
        method: the loss on their outputs.
        options: of these `micro_batch`: images that pass at once; the method sees the outputs of the whole batch, batch
            norm only these images. None: the whole batch.
        teachers: see `Executor`.

    Raises:
        UserError: a group of another kind.
    """

    name = "recompute"
    takes: ClassVar[frozenset[str]] = frozenset({"micro_batch"})

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        options: ExecutionOptions | None = None,
        teachers: Sequence[nn.Module] | Teachers = (),
    ) -> None:
        super().__init__(group, method, options, teachers)
        if not isinstance(group, NetworkGroup | SharedGroup):
            raise UserError(
                f"executor 'recompute' with a {type(group).__name__}: it takes networks, branches or a tree; use the "
                "executor 'loop'."
            )
        self.trunk = group.trunk if isinstance(group, SharedGroup) else None
        self.segments = list(group.networks) if isinstance(group, NetworkGroup) else []
        self.segments += [segment for level in getattr(group, "levels", ()) for segment in level]

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        if not torch.is_grad_enabled():
            return super()._run(views)
        images = len(views) if isinstance(views, Tensor) else len(views[0])
        size = self.options.micro_batch or images
        one_pass = isinstance(views, Tensor) and size >= images
        segments = self.segments if self.trunk is None or one_pass else [self.trunk, *self.segments]
        with _recomputed(segments, self._safe):
            return PeerOutputs.cat([super(RecomputeExecutor, self)._run(part) for part in _split(views, size)])


@contextmanager
def _recomputed(parts: Sequence[nn.Module], safe: AbstractContextManager[object]) -> Iterator[None]:
    """A scope in which the forward of these modules keeps its inputs only; `safe`: see `safe_convolutions`."""
    for part in parts:
        scopes = partial(_scopes, part, safe)
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, context_fn=scopes)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _scopes(
    part: nn.Module, safe: AbstractContextManager[object]
) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Scopes of the first and the second forward: the second one begins with the buffers (running statistics) that
    the first one began with, and leaves none of its changes."""
    buffers = list(part.buffers())
    before = [buffer.clone() for buffer in buffers]

    @contextmanager
    def again() -> Iterator[None]:
        after = [buffer.clone() for buffer in buffers]
        _put(buffers, before)
        try:
            with safe:
                yield
        finally:
            _put(buffers, after)

    return nullcontext(), again()


@torch.no_grad()
def _put(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


def _split(views: Tensor | Sequence[Tensor], size: int) -> list[Tensor] | list[tuple[Tensor, ...]]:
    if isinstance(views, Tensor):
        return _parts(views, size)
    return list(zip(*(_parts(view, size) for view in views), strict=True))


def _parts(view: Tensor, size: int) -> list[Tensor]:
    """Parts of `size` images; a last one alone joins the part before it, since batch norm needs two."""
    *first, last = view.split(size)
    if first and len(last) == 1:
        return [*first[:-1], torch.cat([first[-1], last])]
    return [*first, last]
