"""What every group is: networks in, the output boundary out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from codistill.errors import UserError
from codistill.types import GroupShape, PeerOutputs

__all__ = ["PeerGroup", "check_logits"]


class PeerGroup(nn.Module):
    """Base of all groups; a subclass sets `shape` and defines `forward` and `student`.

    Attributes:
        shape: the sizes that methods need, known from construction on.
        image_shape: [C, H, W] of images on which the peers have been tried.
        rescale_shared_gradients: whether, at every split, the gradient that flows back into the shared part is divided
            by the number of children (ILR of Song & Chai 2018); without effect where the peers share nothing.
    """

    shape: GroupShape
    image_shape: tuple[int, ...]
    rescale_shared_gradients: bool = False

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """Return all peers' outputs.

        Args:
            views: images [B, channels, H, W], one tensor for all peers or a sequence with one a peer.

        Returns:
            Logits [P, B, C], features P x [B, D_p], and the shared trunk's pooled features [B, D] or None.

        Raises:
            UserError: not one view a peer, views of different batches, or a network whose output is not [B, C].
        """
        raise AssertionError(f"{type(self).__name__} defines no forward")

    def student(self, peer: int) -> nn.Module:
        """Return peer `peer` (0 to P - 1) as the plain network, a copy with its weights and running statistics.

        The copy is of the class that the user gave, on the group's device and in the group's mode (training or
        evaluation), and its outputs equal the peer's bit by bit in evaluation mode.

        Raises:
            UserError: there is no such peer.
        """
        raise AssertionError(f"{type(self).__name__} defines no student")

    def _check_peer(self, peer: int) -> int:
        if not 0 <= peer < self.shape.peers:
            raise UserError(f"peer {peer} of a group of {self.shape.peers}: give 0 to {self.shape.peers - 1}.")
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


def check_logits(output: object, images: Tensor, num_classes: int | None = None) -> Tensor:
    """Return a network's output where it is logits [B, C] for these images; UserError otherwise."""
    B = len(images)
    if not isinstance(output, Tensor):
        raise UserError(
            f"a network returned {type(output).__name__}: a peer must return one tensor of logits [B, C]; switch its "
            "auxiliary outputs off, or wrap it."
        )
    fits = output.ndim == 2 and len(output) == B and (num_classes is None or output.shape[1] == num_classes)
    if not fits:
        wanted = f"[{B}, {'C' if num_classes is None else num_classes}]"
        raise UserError(
            f"a network returned shape {list(output.shape)}: a peer must return logits {wanted}, one row an image; "
            "wrap it in a module that does."
        )
    return output
