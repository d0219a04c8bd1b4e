"""Which student runs in which process: the most expensive first, each to the process with the least to do so far."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.peers import PeerGroup
from codistill.tracing.cost import forward_cost

__all__ = ["costs_of", "place"]


def place(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Deal students out to processes, each of which gets at least one.

    Args:
        costs: of each student's step, such as its multiply-accumulates.
        processes: at most as many as students.

    Returns:
        The students of each process, in ascending order.
    """
    found: list[list[int]] = [[] for _ in range(processes)]
    load = [0.0] * processes
    for peer in sorted(range(len(costs)), key=lambda peer: (-costs[peer], peer)):
        # An empty process first, so that students without any cost do not leave one idle.
        target = min(range(processes), key=lambda r: (bool(found[r]) and load[r], len(found[r]), r))
        found[target].append(peer)
        load[target] += costs[peer]
    return [sorted(peers) for peers in found]


def costs_of(group: PeerGroup) -> list[float]:
    """Return the multiply-accumulates of each student's forward pass on two images."""
    shape, device = (2, *group.image_shape), next(group.parameters()).device
    dtype = next(group.parameters()).dtype if group.input_dtype.is_floating_point else group.input_dtype
    found: dict[tuple[type, int], float] = {}
    costs = []
    for peer in range(group.shape.peers):
        net = group.plain_network(peer)
        key = (type(net), sum(p.numel() for p in net.parameters()))
        if key not in found:
            found[key] = float(forward_cost(net, [shape], device, dtype=dtype).macs)
        costs.append(found[key])
    return costs
