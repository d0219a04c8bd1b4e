"""Finds the values that may cross a cut next to its tensor, by running a copy of the network without values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from codistill.tracing.plan import SideValues, plan_of
from codistill.tracing.probe import probe
from codistill.tracing.segment import Operation, Segment

__all__ = ["find_side_values"]


def find_side_values(net: nn.Module, graph: fx.Graph, images: Tensor) -> SideValues:
    """Return the sizes and the constants of a forward.

    Args:
        net: the network; not changed.
        graph: its traced forward.
        images: a batch that the network accepts; only its shape is read.
    """
    first = next(node.name for node in graph.nodes if node.op == "placeholder")
    plan = plan_of([node for node in graph.nodes if node.op != "output"], (first,), ())

    def look(ghost: nn.Module, x: Tensor) -> dict[str, str]:
        watch = _Watch(ghost, {False: plan}).eval()
        with torch.enable_grad():
            watch(x.requires_grad_().clone() if x.is_floating_point() else x)
        return watch.kinds

    kinds = probe(net, images, look)
    sizes, constants = ({n for n in graph.nodes if kinds.get(n.name) == kind} for kind in ("size", "constant"))
    return SideValues(sizes, constants)


class _Watch(Segment):
    """Runs a plan, and records for every value whether it is a size, a constant or carries gradient."""

    def __init__(self, net: nn.Module, plans: dict[bool, Any]) -> None:
        super().__init__(net, plans)
        self.kinds: dict[str, str] = {}

    def _run(self, operation: Operation, values: dict[str, Any]) -> Any:
        value = super()._run(operation, values)
        tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        carries = any(tensor.requires_grad for tensor in tensors)
        self.kinds[operation.name] = "activation" if carries else "constant" if tensors else "size"
        return value
