"""The recompute executor: activation memory of one peer, whatever their number, for one more forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codistill.errors import UserError
from codistill.execution.loop import LoopExecutor
from codistill.methods import Method
from codistill.peers import NetworkGroup, PeerGroup, TaughtGroup
from codistill.peers.shared import SharedGroup
from codistill.types import PeerOutputs

__all__ = ["RecomputeExecutor"]


class RecomputeExecutor(LoopExecutor):
    """Forward without activations, the method on the outputs, then peer by peer forward again and backward.

    torch.utils.checkpoint does it for each network, branch or inner part of a tree, and replays dropout; running
    statistics are updated once. A trunk that sees one view for all runs once, so that the memory is that of one plain
    network. Results equal those of `loop`, to the bit where the device's kernels repeat theirs.

    Args:
        group: networks, branches or a tree.
        method: the loss on their outputs.
        amp: see `LoopExecutor`.
        micro_batch: images that pass at once; the method sees the outputs of the whole batch, batch norm only these
            images. None: the whole batch.

    Raises:
        UserError: a group of another kind.
    """

    def __init__(
        self, group: PeerGroup, method: Method, amp: torch.dtype | None = None, micro_batch: int | None = None
    ) -> None:
        super().__init__(group, method, amp)
        self.micro_batch = micro_batch
        students = group.students if isinstance(group, TaughtGroup) else group
        if not isinstance(students, NetworkGroup | SharedGroup):
            raise UserError(
                f"executor 'recompute' with a {type(group).__name__}: it takes networks, branches or a tree; use the "
                "executor 'loop'."
            )
        self.trunk = students.trunk if isinstance(students, SharedGroup) else None
        self.parts = list(students.networks) if isinstance(students, NetworkGroup) else []
        self.parts += [part for level in getattr(students, "levels", ()) for part in level]

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        if not torch.is_grad_enabled():
            return super()._run(views)
        images = len(views) if isinstance(views, Tensor) else len(views[0])
        size = self.micro_batch or images
        one_pass = isinstance(views, Tensor) and size >= images
        parts = self.parts if self.trunk is None or one_pass else [self.trunk, *self.parts]
        with _recomputed(parts, self._safe):
            return _joined([super(RecomputeExecutor, self)._run(part) for part in _split(views, size)])


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


def _joined(outputs: Sequence[PeerOutputs]) -> PeerOutputs:
    """The outputs of micro-batches as those of one batch."""
    if len(outputs) == 1:
        return outputs[0]
    trunks = [out.trunk_features for out in outputs if out.trunk_features is not None]
    teachers = [out.teacher_logits_KBC for out in outputs if out.teacher_logits_KBC is not None]
    return PeerOutputs(
        torch.cat([out.logits_PBC for out in outputs], dim=1),
        tuple(torch.cat(features) for features in zip(*(out.features for out in outputs), strict=True)),
        torch.cat(trunks) if trunks else None,
        torch.cat(teachers, dim=1) if teachers else None,
    )
