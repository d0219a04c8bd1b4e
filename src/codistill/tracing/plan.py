"""Assigns the nodes of a traced forward to segments, and checks what crosses the cut between two segments."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from codistill.errors import UserError
from codistill.tracing.segment import Operation, Ref, SegmentPlan
from codistill.tracing.trace import Traced

__all__ = ["SideValues", "make_plans", "plan_of"]


@dataclass(frozen=True)
class SideValues:
    """Nodes of a traced forward that carry no gradient, so branches may share them.

    Attributes:
        sizes: nodes without tensors: sizes, devices, and what is computed from them.
        constants: tensors that depend on no parameter and no activation, such as rotary position embeddings and masks.
    """

    sizes: set[fx.Node]
    constants: set[fx.Node]


def make_plans(traced: Traced, side: SideValues, splits: Sequence[str]) -> list[SegmentPlan]:
    """Return one plan per segment.

    Args:
        traced: the forward.
        side: the nodes that may cross a cut next to its tensor.
        splits: in execution order; segment k begins at split k - 1.

    Raises:
        UserError: more than one tensor crosses a cut, or the output is not one tensor.
    """
    graph = traced.graph
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise UserError(
            f"the network returns a {type(result).__name__}: a peer must return one tensor of logits [B, C]; switch "
            "its auxiliary outputs off, or wrap it."
        )
    segment = _assign(traced, side.sizes, splits)
    names = [_crossing(segment, side, k, splits[k - 1]) for k in range(1, len(splits) + 1)]
    images = next(node.name for node in graph.nodes if node.op == "placeholder")
    inputs, outputs = [(images,), *names], [*names, (result.name,)]
    return [plan_of([n for n in segment if segment[n] == k], inputs[k], outputs[k]) for k in range(len(splits) + 1)]


def _assign(traced: Traced, sizes: set[fx.Node], splits: Sequence[str]) -> dict[fx.Node, int]:
    """Return the segment of every node that computes something.

    A size is computed in the segment of its tensor, even if the forward reads it later: then only a number crosses the
    cut.
    """
    segment: dict[fx.Node, int] = {}
    for node, position in traced.positions.items():
        if node.op == "placeholder":
            segment[node] = 0
        elif node in sizes and node.op in ("call_function", "call_method"):
            segment[node] = max((segment[i] for i in node.all_input_nodes if i in segment), default=0)
        elif node.op not in ("get_attr", "output"):
            segment[node] = sum(traced.starts[split] <= position for split in splits)
    return segment


def _crossing(segment: Mapping[fx.Node, int], side: SideValues, k: int, split: str) -> tuple[str, ...]:
    """Names of the values that enter segment k from earlier segments: the tensor first, then the side values."""
    last = max(segment.values())
    crossing = [
        node
        for node, at in segment.items()
        if at < k and any((segment[user] if user in segment else max(last, k)) >= k for user in node.users)
    ]
    tensors = [node for node in crossing if node not in side.sizes]
    if len(tensors) > 1:
        tensors = [node for node in tensors if node not in side.constants]
    if len(tensors) != 1:
        parent = split.rpartition(".")[0]
        remedy = f"split at the block around it, {parent!r}" if parent else "split where only one tensor continues"
        raise UserError(
            f"split {split!r} cuts through a skip connection: {len(tensors)} tensors cross it, from "
            f"{' and '.join(dict.fromkeys(_where(node) for node in tensors))}; {remedy}."
        )
    return (tensors[0].name, *(node.name for node in crossing if node is not tensors[0]))


def _where(node: fx.Node) -> str:
    while node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    if node.op == "placeholder":
        return "the images"
    if node.op == "call_module":
        return repr(node.target)
    inside = list(node.meta.get("nn_module_stack", {}))
    return f"{node.name!r}" + (f" in {inside[-1]!r}" if inside and inside[-1] else "")


def plan_of(nodes: Sequence[fx.Node], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> SegmentPlan:
    """Return the plan that computes `nodes`, given in execution order, from the values named `inputs`."""
    ordered: dict[fx.Node, None] = {}
    for node in nodes:
        # Every segment that uses an attribute reads it itself (a parameter in two segments is refused later).
        ordered.update(dict.fromkeys(i for i in node.all_input_nodes if i.op == "get_attr"))
        if node.op != "placeholder":
            ordered[node] = None
    last_use = dict.fromkeys(inputs, "")
    for node in ordered:
        last_use[node.name] = node.name
        last_use.update({i.name: node.name for i in node.all_input_nodes})
    operations = []
    for node in ordered:
        frees = tuple(name for name, at in last_use.items() if at == node.name and name not in outputs)
        kwargs = {key: _plain(value) for key, value in node.kwargs.items()}
        args = tuple(_plain(a) for a in node.args)
        operations.append(Operation(node.name, node.op, node.target, args, kwargs, frees))
    return SegmentPlan(inputs, tuple(operations), outputs)


def _plain(argument: Any) -> Any:
    if isinstance(argument, fx.Node):
        return Ref(argument.name)
    if isinstance(argument, tuple):
        return tuple(_plain(a) for a in argument)
    if isinstance(argument, list):
        return [_plain(a) for a in argument]
    if isinstance(argument, dict):
        return {key: _plain(a) for key, a in argument.items()}
    if isinstance(argument, slice):
        return slice(_plain(argument.start), _plain(argument.stop), _plain(argument.step))
    return argument
