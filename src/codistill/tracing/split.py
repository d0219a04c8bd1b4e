"""Splits any network into segments before chosen modules, so that one activation crosses every cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from codistill.errors import UserError
from codistill.tracing.modes import modes_kept
from codistill.tracing.ownership import find_shared
from codistill.tracing.plan import make_plans
from codistill.tracing.segment import Segment, SegmentPlan
from codistill.tracing.side_values import find_side_values
from codistill.tracing.trace import trace

__all__ = ["split_network"]


def split_network(
    net: nn.Module, splits: Sequence[str], images: Tensor, one_tensor: bool = True
) -> tuple[list[str], list[Segment]]:
    """Return the splits in execution order, and the segments of `net` before, between and after them.

    A segment contains everything that runs from its split up to the next one. The segments use the network's modules
    without copying them. Run one after the other, they do exactly what the network does, in training and in evaluation.

    Args:
        net: the network.
        splits: module paths.
        images: a batch that the network accepts; only its shape is read.
        one_tensor: whether the network must return one tensor; else it may return a dictionary or tuple of them.

    Raises:
        UserError: a split is unknown, never runs, cannot be traced, or is where the network begins; two splits begin at
            the same place; a cut goes through a skip connection; a layer runs on both sides of a cut; or the output is
            not one tensor where it must be.
    """
    with modes_kept(net):
        train_order, train = _cut(net.train(), splits, images, one_tensor)
        eval_order, evaluation = _cut(net.eval(), splits, images, one_tensor)
    if train_order != eval_order:
        raise UserError(f"splits {train_order} run in a different order in evaluation: choose others.")
    segments = [Segment(net, {True: t, False: e}) for t, e in zip(train, evaluation, strict=True)]
    _refuse_shared(segments, train_order)
    for segment in segments:
        segment.training = net.training
    return train_order, segments


def _cut(
    net: nn.Module, splits: Sequence[str], images: Tensor, one_tensor: bool
) -> tuple[list[str], list[SegmentPlan]]:
    traced = trace(net, splits, one_tensor)
    order = sorted(splits, key=traced.starts.__getitem__)
    for first, second in itertools.pairwise(order):
        if traced.starts[first] == traced.starts[second]:
            raise UserError(f"splits {first!r} and {second!r} begin at the same place: give one of them.")
    return order, make_plans(traced, find_side_values(net, traced.graph, images), order)


def _refuse_shared(segments: Sequence[Segment], order: Sequence[str]) -> None:
    if not any(True for _ in segments[0].parameters()):
        raise UserError(
            f"split {order[0]!r} is where the network begins, so nothing would be shared: choose a later module, or "
            "use NetworkGroup."
        )
    shared = find_shared(segments)
    if shared is not None:
        _, segment, name = shared
        raise UserError(
            f"split {order[segment - 1]!r}: {name!r} is used before and after it, so no branch can own it; choose a "
            "split before its first use."
        )
