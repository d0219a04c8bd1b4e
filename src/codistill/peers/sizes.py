"""Tells the sizes in a traced forward from its tensors, by one run on a copy without values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from codistill.peers.planning import plan_of
from codistill.peers.probe import probe
from codistill.peers.segment import Segment, Step

__all__ = ["find_sizes"]


def find_sizes(net: nn.Module, graph: fx.Graph, images: Tensor) -> set[fx.Node]:
    """Return the nodes whose value holds no tensor: sizes, devices, and what is computed of them.

    Args:
        net: the network; unchanged.
        graph: its traced forward.
        images: a batch with which it runs; only its shape is read.
    """
    first = next(node.name for node in graph.nodes if node.op == "placeholder")
    plan = plan_of([node for node in graph.nodes if node.op != "output"], (first,), ())

    def look(ghost: nn.Module, x: Tensor) -> set[str]:
        watch = _Watch(ghost, {False: plan}).eval()
        watch(x)
        return watch.sizes

    names = probe(net, images, look)
    return {node for node in graph.nodes if node.name in names}


class _Watch(Segment):
    """Runs a plan and notes which values hold no tensor."""

    def __init__(self, net: nn.Module, plans: dict[bool, Any]) -> None:
        super().__init__(net, plans)
        self.sizes: set[str] = set()

    def _run(self, step: Step, values: dict[str, Any]) -> Any:
        value = super()._run(step, values)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(value)):
            self.sizes.add(step.name)
        return value
