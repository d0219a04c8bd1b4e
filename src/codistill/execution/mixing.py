"""The network whose weights are the mean of the peers' (model averaging inside the step, as in OKDPH)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from codistill.errors import UserError
from codistill.peers import PeerGroup

__all__ = ["MixedNetwork"]


class MixedNetwork:
    """Runs a plain network on the mean of the peers' parameters; gradient reaches every peer, 1/P of it each.

    Its normalisation uses the batch in training; running statistics that its forward changes are thrown away. With
    several views it sees the first peer's.

    Args:
        group: peers of one architecture.

    Raises:
        UserError: peers whose parameters differ in names or shapes.
    """

    def __init__(self, group: PeerGroup) -> None:
        self.group = group
        shapes = [
            {name: parameter.shape for name, parameter in group.peer_parameters(peer).items()}
            for peer in range(group.shape.peers)
        ]
        other = next((peer for peer, found in enumerate(shapes) if found != shapes[0]), None)
        if other is not None:
            raise UserError(
                f"the method needs the mean of the peers' weights, and peers 0 and {other} differ in architecture: "
                "give peers of one architecture."
            )

    def run(self, views: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits [B, ..., C] of the mean network."""
        view = views if isinstance(views, Tensor) else views[0]
        each = [self.group.peer_parameters(peer) for peer in range(self.group.shape.peers)]
        mean = {name: torch.stack([own[name] for own in each]).mean(0) for name in each[0]}
        plain = self.group.plain_network(0)
        like = next(iter(mean.values()))
        buffers = {name: _like(buffer.detach().clone(), like) for name, buffer in plain.named_buffers()}
        # A peer's own network keeps the modes of its layers; the plain one of a trunk follows the group.
        if plain.training != self.group.training:
            plain.train(self.group.training)
        return self.group.reader(functional_call(plain, {**mean, **buffers}, (view,)), view)


def _like(buffer: Tensor, parameter: Tensor) -> Tensor:
    """On the parameter's device, and in its precision: the plain network of a trunk does not move with its group."""
    return buffer.to(parameter) if buffer.is_floating_point() else buffer.to(parameter.device)
