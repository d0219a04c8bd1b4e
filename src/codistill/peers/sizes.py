"""Tells what may cross a cut beside its tensor, by one run on a copy without values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from codistill.peers.planning import Beside, plan_of
from codistill.peers.probe import probe
from codistill.peers.segment import Segment, Step

__all__ = ["find_beside"]


def find_beside(net: nn.Module, graph: fx.Graph, images: Tensor) -> Beside:
    """Return the sizes and the constants of a forward.

    Args:
        net: the network; unchanged.
        graph: its traced forward.
        images: a batch with which it runs; only its shape is read.
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
    return Beside(sizes, constants)


class _Watch(Segment):
    """Runs a plan and notes of every value whether it is a size, a constant or carries gradient."""

    def __init__(self, net: nn.Module, plans: dict[bool, Any]) -> None:
        super().__init__(net, plans)
        self.kinds: dict[str, str] = {}

    def _run(self, step: Step, values: dict[str, Any]) -> Any:
        value = super()._run(step, values)
        tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
        carries = any(tensor.requires_grad for tensor in tensors)
        self.kinds[step.name] = "activation" if carries else "constant" if tensors else "size"
        return value
