"""What the students of one process put out: a module of their parameters alone, as data parallelism needs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codistill.peers import NetworkGroup, PeerGroup
from codistill.types import PeerOutputs

__all__ = ["OwnOutputs", "run_peers"]


class OwnOutputs(nn.Module):
    """Runs this process' students; its parameters and buffers are theirs alone, as `DistributedDataParallel` needs it.

    Args:
        group: all students.
        own: this process' students.
    """

    def __init__(self, group: PeerGroup, own: Sequence[int]) -> None:
        super().__init__()
        # In a tuple, since a module as an attribute would be a part of this one.
        self._whole = (group, tuple(own))
        self._like: PeerOutputs | None = None
        parts: list[nn.Module] = [group]
        if isinstance(group, NetworkGroup):
            heads = [list(of_peers.children())[peer] for of_peers in group.heads.values() for peer in own]
            parts = [*(group.networks[peer] for peer in own), *heads]
        self.parts = nn.ModuleList(parts)

    def forward(self, views: Tensor | Sequence[Tensor], seed: int) -> list[Tensor]:
        """Return the tensors of the outputs, for `filled`; peer p draws from seed + p."""
        group, own = self._whole
        outputs = run_peers(group, own, views, seed)
        self._like = outputs.map(lambda tensor: tensor.detach().to("meta"))
        return outputs.every()

    def filled(self, tensors: Sequence[Tensor]) -> PeerOutputs:
        """The tensors of the last forward as outputs."""
        assert self._like is not None
        return self._like.filled(tensors)


def run_peers(
    group: PeerGroup, peers: Sequence[int], views: Tensor | Sequence[Tensor], seed: int | None = None
) -> PeerOutputs:
    """The outputs of some students; of all where these share layers. With a seed, peer p draws from seed + p."""
    if not isinstance(group, NetworkGroup):
        if seed is not None:
            torch.manual_seed(seed)
        return group(views)
    each, found = group.view_of_each(views), []
    for peer in peers:
        if seed is not None:
            torch.manual_seed(seed + peer)
        found.append(group.run_peer(peer, each[peer]))
    outputs = PeerOutputs.stack(found)
    return dataclasses.replace(outputs, head_logits=group.head_logits(outputs.maps, peers)) if group.heads else outputs
