"""What every group is: networks in, the output boundary out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Self

from codistill.errors import UserError
from codistill.models.init import draw_generator, initialise
from codistill.peers.logits import LogitsReader
from codistill.peers.pooling import channel_axis, pool
from codistill.types import GroupShape, Needs, PeerOutputs

__all__ = ["PeerGroup"]


class PeerGroup(nn.Module):
    """Base of all groups; a subclass sets `shape` and defines `forward`, `student` and what else raises here.

    Attributes:
        shape: the sizes that methods need, known from construction on.
        image_shape: [C, H, W] of images on which the peers have been tried.
        input_dtype: of these inputs, an integer type for tokens.
        reader: makes logits of what a peer returns.
        rescale_shared_gradients: whether, at every split, the gradient that flows back into the shared part is divided
            by the number of children (ILR of Song & Chai 2018); without effect where the peers share nothing.
        maps: name of a map -> for each peer the path of the module whose output it is; see `Needs.maps`.
        heads: path -> one extra linear classifier per peer; see `Needs.heads`. No part of a student.
        still: paths of the group's own modules that stay in evaluation mode when the group trains (frozen batch norms).
    """

    shape: GroupShape
    image_shape: tuple[int, ...]
    input_dtype: torch.dtype
    reader: LogitsReader

    def __init__(self) -> None:
        super().__init__()
        self.rescale_shared_gradients = False
        self.maps: dict[str, tuple[str, ...]] = {}
        self.heads = nn.ModuleDict()
        self.still: tuple[str, ...] = ()
        self._axes: dict[str, tuple[int, ...]] = {}

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """Return all peers' outputs.

        Args:
            views: inputs [B, ...], one tensor for all peers or a sequence with one per peer.

        Returns:
            Logits [P, B, ..., C], features, and of the optional fields those that `provide` was asked for, but for
            teachers, averages and the mixed network, which an executor adds.

        Raises:
            UserError: not one view per peer, views of different batches, or a network whose output is no logits.
        """
        raise AssertionError(f"{type(self).__name__} defines no forward")

    def train(self, mode: bool = True) -> Self:
        """Put all modules but the `still` ones into training mode, or all into evaluation mode."""
        super().train(mode)
        for path in self.still:
            self.get_submodule(path).eval()
        return self

    def student(self, peer: int) -> nn.Module:
        """Return peer `peer` (0 to P - 1) as the plain network, a copy with its weights and running statistics.

        The copy is of the class that the user gave, on the group's device and in the group's mode (training or
        evaluation), and its outputs equal the peer's bit by bit in evaluation mode.

        Raises:
            UserError: there is no such peer.
        """
        raise AssertionError(f"{type(self).__name__} defines no student")

    def peer_parameters(self, peer: int) -> dict[str, nn.Parameter]:
        """The parameters that a peer runs through, shared ones among them, by their names in the plain network."""
        raise AssertionError(f"{type(self).__name__} defines no peer_parameters")

    def peer_modules(self, peer: int) -> dict[str, nn.Module]:
        """The modules that a peer runs through, by their paths in the plain network."""
        raise AssertionError(f"{type(self).__name__} defines no peer_modules")

    def classifier_of(self, peer: int) -> str:
        """The path of the layer that makes a peer's logits."""
        raise AssertionError(f"{type(self).__name__} defines no classifier_of")

    def peer_state(self, peer: int) -> dict[str, Tensor]:
        """The state dict of a peer, by its names in the plain network: the group's own tensors, to read or to fill."""
        raise AssertionError(f"{type(self).__name__} defines no peer_state")

    def plain_network(self, peer: int) -> nn.Module:
        """The module whose `forward` a peer's is; use only its structure, its buffers and what never runs."""
        raise AssertionError(f"{type(self).__name__} defines no plain_network")

    def owned_parameters(self, peers: Collection[int]) -> list[nn.Parameter]:
        """The parameters that these peers run through and no other one, their extra heads among them."""
        if not peers:
            return []  # Asked for in every step, and most steps pause nobody.
        rest = [peer for peer in range(self.shape.peers) if peer not in peers]
        others = {id(p) for peer in rest for p in self.peer_parameters(peer).values()}
        own = {id(p): p for peer in peers for p in self.peer_parameters(peer).values() if id(p) not in others}
        heads = [list(of_peers.children())[peer] for of_peers in self.heads.values() for peer in peers]
        return [*own.values(), *(p for head in heads for p in head.parameters())]

    def provide(self, needs: Needs, generator: torch.Generator | None = None) -> None:
        """Put out what `needs` ask for from now on; `codistill.methods.build` calls this.

        Args:
            needs: of the method.
            generator: draws the parameters of extra heads; torch's default generator if None.

        Raises:
            UserError: a map or head after a module that is not there, never runs, or puts out no tensor.
        """
        self.rescale_shared_gradients = needs.rescale_shared_gradients
        self.maps, self.heads = {}, nn.ModuleDict().train(self.training)
        self.shape = dataclasses.replace(self.shape, map_shapes={})
        if not needs.maps and not needs.heads:
            return
        wanted = dict.fromkeys((*needs.maps, *needs.heads))
        self.maps = {name: self._find_map(name) for name in wanted}
        shapes = self._map_shapes()
        source = draw_generator(generator)
        like = next(self.parameters())
        for path in needs.heads:
            # Of the images on which the group was tried: others may have as many rows as the map has channels.
            self._axes[path] = tuple(channel_axis((0, *shape)) for shape in shapes[path])
            widths = [shape[axis - 1] for shape, axis in zip(shapes[path], self._axes[path], strict=True)]
            # Without values at first: a layer's own would be drawn from torch's default generator.
            empty = [nn.Linear(D, self.shape.num_classes, device="meta").to_empty(device="cpu") for D in widths]
            of_peers = [initialise(head, source).to(like) for head in empty]
            self.heads[_key(path)] = nn.ModuleList(of_peers).train(self.training)
        self.shape = dataclasses.replace(self.shape, map_shapes=shapes)

    def _find_map(self, name: str) -> tuple[str, ...]:
        raise AssertionError(f"{type(self).__name__} gives no maps")

    def _map_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """The shapes of all maps without the batch, by one forward on copies without values."""
        raise AssertionError(f"{type(self).__name__} gives no maps")

    def head_logits(
        self, maps: Mapping[str, tuple[Tensor, ...]], peers: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """The extra classifiers on the pooled maps of these peers (None: of all), in training only."""
        if not self.training:
            return {}
        found = {}
        for path in maps:
            if _key(path) in self.heads:
                chosen = range(self.shape.peers) if peers is None else peers
                heads, axes = list(self.heads[_key(path)].children()), self._axes[path]
                pooled = [pool(x, axes[peer]) for x, peer in zip(maps[path], chosen, strict=True)]
                found[path] = torch.stack([heads[peer](h) for peer, h in zip(chosen, pooled, strict=True)])
        return found

    def heads_after(self, path: str) -> nn.Module:
        """The extra classifiers after that module, one per peer."""
        return self.heads[_key(path)]

    def _check_peer(self, peer: int) -> int:
        if not isinstance(peer, int) or not 0 <= peer < self.shape.peers:
            hint = "; the method names no leader: choose by the validation error" if peer is None else ""
            raise UserError(f"peer {peer} of a group of {self.shape.peers}: give 0 to {self.shape.peers - 1}{hint}.")
        return peer

    def view_of_each(self, views: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """One view for every peer; the same tensor object where peers share it. UserError as in `forward`."""
        if isinstance(views, Tensor):
            return [views] * self.shape.peers
        if len(views) != self.shape.peers:
            raise UserError(
                f"{len(views)} views for {self.shape.peers} peers: give one tensor for all peers, or one for each."
            )
        if len({len(view) for view in views}) > 1:
            raise UserError(f"views of {[len(v) for v in views]} images: all views must show the same images.")
        return list(views)


def _key(path: str) -> str:
    """The path as a name of a submodule, which must have no dot and be no method of a dictionary ("values")."""
    return "after_" + path.replace(".", "/")
