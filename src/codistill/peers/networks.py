"""A group of networks that share nothing (network-based OKDDip, DML, KDCL)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.peers.base import PeerGroup, check_logits
from codistill.peers.features import find_classifier, forward_with_features
from codistill.tracing.ownership import find_shared
from codistill.types import GroupShape, PeerOutputs

__all__ = ["NetworkGroup"]


class NetworkGroup(PeerGroup):
    """Each peer its own network; they may differ in all but the number of classes.

    The networks become the group's own (no copies), under the names `networks.0`, `networks.1`, ...

    Args:
        networks: one or more networks with logits [B, C].
        classifier: path of the classifier in every network, where it is not the last linear layer that runs.
        features: path of the layer whose input is the feature vector; the network's own `feature_layer`, or the
            classifier, if None.
        example: a batch of images that every network takes; needed only where the network runs neither on 32, 224 nor
            299 pixels nor on the size that it names itself. Only its shape is read.

    Raises:
        UserError: no network, one network twice, different numbers of classes, or no classifier found.

    Attributes:
        networks: the peers.
        classifiers: where each network's features are.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        classifier: str | None = None,
        example: Tensor | None = None,
        features: str | None = None,
    ) -> None:
        super().__init__()
        _refuse_twins(networks)
        self.networks = nn.ModuleList(networks)
        found = [find_classifier(net, classifier, example, features) for net in networks]
        self.classifiers = tuple(its_classifier for its_classifier, _ in found)
        self.image_shape = tuple(found[0][1].shape[1:])
        classes = [c.num_classes for c in self.classifiers]
        if len(set(classes)) > 1:
            raise UserError(f"networks of {classes} classes: peers must agree; build all with the same num_classes.")
        self.shape = GroupShape(len(networks), classes[0], tuple(c.width for c in self.classifiers))

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """All peers' outputs; see `PeerGroup.forward`."""
        each = [self.forward_peer(peer, view) for peer, view in enumerate(self.view_of_each(views))]
        return PeerOutputs(torch.stack([logits for logits, _ in each]), tuple(features for _, features in each))

    def forward_peer(self, peer: int, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return one peer's logits [B, C] and features [B, D_p]; UserError as in `forward`."""
        net = self.networks[self._check_peer(peer)]
        output, features = forward_with_features(net, self.classifiers[peer], view)
        return check_logits(output, view, self.shape.num_classes), features

    def student(self, peer: int) -> nn.Module:
        """A copy of the peer; see `PeerGroup.student`."""
        return copy.deepcopy(self.networks[self._check_peer(peer)])


def _refuse_twins(networks: Sequence[nn.Module]) -> None:
    if len(networks) < 1:
        raise UserError("0 networks: a group has at least one peer; give a list of networks.")
    seen: dict[int, int] = {}
    for peer, net in enumerate(networks):
        if id(net) in seen:
            raise UserError(
                f"networks {seen[id(net)]} and {peer} are the same object: peers must own their parameters; build each "
                "one anew, with its own generator."
            )
        seen[id(net)] = peer
    shared = find_shared(networks)
    if shared is not None:
        first, second, name = shared
        raise UserError(
            f"networks {first} and {second} share {name!r}: peers must own their parameters and statistics; build each "
            "one anew, or use BranchedGroup for a shared trunk."
        )
