"""A group of networks that share nothing (network-based OKDDip, DML, KDCL)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from codistill.errors import UserError, unknown
from codistill.needs import LAST_MAP
from codistill.peers.base import PeerGroup
from codistill.peers.features import find_classifier
from codistill.peers.logits import LogitsReader, Output
from codistill.peers.observe import find_last_map, run_observed, shapes_of_maps, the_input
from codistill.peers.unwrap import backend_apart, unwrap
from codistill.tracing.ownership import find_shared
from codistill.tracing.probe import probe
from codistill.types import GroupShape, PeerOutputs

__all__ = ["NetworkGroup"]


class NetworkGroup(PeerGroup):
    """Each peer its own network; they may differ in all but the number of classes.

    The networks become the group's own (no copies), under the names `networks.0`, `networks.1`, ... Of one that is
    compiled or wrapped in `DataParallel` the group takes what is inside, with a warning.

    Args:
        networks: one or more networks with logits [B, C].
        classifier: path of the classifier in every network, where it is not the last linear layer that runs.
        example: a batch that every network takes; needed only where the networks take no images, or where one runs
            neither on 32, 224 nor 299 pixels nor on the size that it names itself. Only its shape and dtype are read.
        features: path of the layer whose input is the feature vector; the network's own `feature_layer`, or the
            classifier, if None.
        output: where the logits are in what the networks return: a key or attribute such as "out" or "logits", or a
            function; None: they return the logits.
        class_axis: axis of the classes in the logits: -1, or 1 for dense predictions [B, C, H, W].

    Raises:
        UserError: no network, one network twice, different numbers of classes, no classifier found, or a network that
            is wrapped in `DistributedDataParallel`.

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
        *,
        output: Output | None = None,
        class_axis: int = -1,
    ) -> None:
        super().__init__()
        networks, self._came_compiled = unwrap(networks)
        _refuse_twins(networks)
        self.networks = nn.ModuleList(networks)
        reader = LogitsReader(output, class_axis)
        found = [find_classifier(net, classifier, example, features, reader) for net in networks]
        self.classifiers = tuple(its_classifier for its_classifier, _ in found)
        self._examples = tuple(images.to("meta") for _, images in found)
        self.image_shape, self.input_dtype = tuple(self._examples[0].shape[1:]), self._examples[0].dtype
        classes = [c.num_classes for c in self.classifiers]
        if len(set(classes)) > 1:
            raise UserError(f"networks of {classes} classes: peers must agree; build all with the same num_classes.")
        self.reader = dataclasses.replace(reader, num_classes=classes[0])
        self.shape = GroupShape(len(networks), classes[0], tuple(c.width for c in self.classifiers))

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """All peers' outputs; see `PeerGroup.forward`."""
        outputs = PeerOutputs.stack([self.run_peer(peer, view) for peer, view in enumerate(self.view_of_each(views))])
        return dataclasses.replace(outputs, head_logits=self.head_logits(outputs.maps)) if self.heads else outputs

    def run_peer(self, peer: int, view: Tensor) -> PeerOutputs:
        """Return the outputs of one peer alone, P = 1; UserError as in `forward`."""
        net, classifier = self.networks[self._check_peer(peer)], self.classifiers[peer]
        watched = {name: paths[peer] for name, paths in self.maps.items()}
        returned, entered, maps = run_observed(net, watched, classifier.features, view)
        entered = the_input(entered, net)
        logits_BC = self.reader(returned, view)
        return PeerOutputs(
            logits_BC.unsqueeze(0), (classifier.features_of(entered),), maps={name: (maps[name],) for name in watched}
        )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `nn.Module.compile`, with code of its own where the networks had been compiled before."""
        if self._came_compiled and not args and not kwargs.keys() & {"mode", "options"}:
            kwargs["backend"] = backend_apart(kwargs.get("backend", "inductor"))
        super().compile(*args, **kwargs)

    def student(self, peer: int) -> nn.Module:
        """A copy of the peer; see `PeerGroup.student`."""
        return copy.deepcopy(self.networks[self._check_peer(peer)])

    def peer_parameters(self, peer: int) -> dict[str, nn.Parameter]:
        """See `PeerGroup.peer_parameters`."""
        return dict(self.networks[self._check_peer(peer)].named_parameters())

    def peer_modules(self, peer: int) -> dict[str, nn.Module]:
        """See `PeerGroup.peer_modules`."""
        return dict(self.networks[self._check_peer(peer)].named_modules())

    def peer_state(self, peer: int) -> dict[str, Tensor]:
        """See `PeerGroup.peer_state`."""
        return dict(self.networks[self._check_peer(peer)].state_dict())

    def classifier_of(self, peer: int) -> str:
        """See `PeerGroup.classifier_of`."""
        return self.classifiers[self._check_peer(peer)].name

    def plain_network(self, peer: int) -> nn.Module:
        """See `PeerGroup.plain_network`."""
        return self.networks[self._check_peer(peer)]

    def _find_map(self, name: str) -> tuple[str, ...]:
        if name == LAST_MAP:
            return tuple(find_last_map(net, self._example_of(peer)) for peer, net in enumerate(self.networks))
        for net in self.networks:
            if not name or name not in dict(net.named_modules()):
                raise unknown("map", name, [path for path, _ in net.named_modules() if path])
        return (name,) * len(self.networks)

    def _map_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        each = []
        for peer, net in enumerate(self.networks):
            watched, images = {name: paths[peer] for name, paths in self.maps.items()}, self._example_of(peer)
            each.append(probe(net, images, lambda ghost, x, watched=watched: shapes_of_maps(ghost, watched, x)))
        return {name: tuple(shapes[name] for shapes in each) for name in self.maps}

    def _example_of(self, peer: int) -> Tensor:
        """The example in the network's precision, which may have changed since the example was given."""
        images, like = self._examples[peer], next(self.networks[peer].parameters(), None)
        if like is None or not like.is_floating_point() or not images.is_floating_point():
            return images
        return images.to(like.dtype)


def _refuse_twins(networks: Sequence[nn.Module]) -> None:
    if len(networks) < 1:
        raise UserError("0 networks: a group has at least one peer; give a list of networks.")
    seen: dict[int, int] = {}
    for peer, net in enumerate(networks):
        if id(net) in seen:
            raise UserError(
                f"networks {seen[id(net)]} and {peer} are the same object: peers must own their parameters; build each "
                "one separately, with its own generator."
            )
        seen[id(net)] = peer
    shared = find_shared(networks)
    if shared is not None:
        first, second, name = shared
        raise UserError(
            f"networks {first} and {second} share {name!r}: peers must own their parameters and statistics; build each "
            "one separately, or use BranchedGroup for a shared trunk."
        )
