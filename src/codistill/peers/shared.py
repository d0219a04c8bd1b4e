"""The implementation of groups whose peers share layers: a tree of parts. A branched group is a tree with one split."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.models.init import draw_generator, initialise, rule_of
from codistill.peers.base import PeerGroup, check_logits
from codistill.peers.features import Classifier, find_classifier, forward_with_features
from codistill.peers.gradients import scale_gradient
from codistill.peers.pooling import channel_axis, pool
from codistill.peers.student import assemble
from codistill.tracing.probe import probe
from codistill.tracing.segment import Segment
from codistill.tracing.split import split_network
from codistill.types import GroupShape, PeerOutputs

__all__ = ["SharedGroup"]


class SharedGroup(PeerGroup):
    """A trunk, and at every split copies of what follows; see BranchedGroup and TreeGroup for the user's side.

    Attributes:
        trunk: the part that all peers share, with the given weights.
        levels: for each split its copies, freshly initialised; copy i of a level hangs on copy i // children of the
            level before. State-dict names are `trunk.NAME` and `levels.SPLIT.COPY.NAME`, NAME as in the plain network.
        splits: the split names in execution order, with the children at each.
        classifier: where the features of the plain network are.
    """

    def __init__(
        self,
        net: nn.Module,
        splits: Mapping[str, int],
        generator: torch.Generator | None,
        classifier: str | None,
        example: Tensor | None,
        features: str | None,
    ) -> None:
        super().__init__()
        source = draw_generator(generator)
        self.classifier, images = find_classifier(net, classifier, example, features)
        self.image_shape = tuple(images.shape[1:])
        # In a tuple, so that the plain network is not a submodule: it only lends its class and its unused parts.
        self._plain = (copy.deepcopy(net),)
        order, segments = split_network(copy.deepcopy(net), list(splits), images)
        self.splits = {name: splits[name] for name in order}
        _refuse_classifier_in_trunk(segments[-1], self.classifier, order[-1])
        parts = nn.ModuleList(segments)
        self._axis, width, self._mutates = probe(parts, images, lambda ghost, x: _look_at_cuts(ghost, x, order))
        self.trunk = segments[0]
        self.levels = nn.ModuleList()
        copies = 1
        for segment, children in zip(segments[1:], self.splits.values(), strict=True):
            copies *= children
            twins = [copy.deepcopy(segment) for _ in range(copies)]
            self.levels.append(nn.ModuleList(initialise(twin, source, rule_of(net)) for twin in twins))
        widths = (self.classifier.width,) * copies
        self.shape = GroupShape(copies, self.classifier.num_classes, widths, width, shares_trunk=True)

    def path(self, peer: int) -> list[Segment]:
        """The parts that a peer runs through, from the trunk to its own; UserError where there is no such peer."""
        return [segment for segment, _ in self._path(self._check_peer(peer))]

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """All peers' outputs; every part runs once for each distinct view among its peers. See `PeerGroup.forward`.

        `trunk_features` are the trunk's output, pooled; with several views, the mean over the peers' views.
        """
        each_view = self.view_of_each(views)
        done: dict[tuple[int, int], tuple[Any, ...]] = {}
        logits, features = [], []
        for peer, view in enumerate(each_view):
            output, feature = self._run(peer, view, done)
            logits.append(check_logits(output, view, self.shape.num_classes))
            features.append(feature)
        trunk_features = self._pool_trunk([done[id(self.trunk), id(view)] for view in each_view])
        return PeerOutputs(torch.stack(logits), tuple(features), trunk_features)

    def run_trunk(self, views: Tensor | Sequence[Tensor]) -> tuple[list[tuple[Any, ...]], Tensor]:
        """What the trunk hands down to each child at the first split, for each peer, and the trunk's features [B, D].

        The trunk runs once for each distinct view; see `forward`.
        """
        done: dict[int, tuple[Any, ...]] = {}
        each_view = self.view_of_each(views)
        for view in each_view:
            if id(view) not in done:
                done[id(view)] = self.trunk(view)
        values = [done[id(view)] for view in each_view]
        children = next(iter(self.splits.values()))
        return [self._hand_down(value, children) for value in values], self._pool_trunk(values)

    def _pool_trunk(self, values: Sequence[tuple[Any, ...]]) -> Tensor:
        """The mean over the peers' views, where these differ, of the trunk's pooled outputs."""
        pooled = {id(value): pool(value[0], self._axis) for value in values}
        each = [pooled[id(value)] for value in values]
        return each[0] if len(pooled) == 1 else torch.stack(each).mean(0)

    def student(self, peer: int) -> nn.Module:
        """The peer as the plain network; see `PeerGroup.student`."""
        return assemble(self._plain[0], self.path(peer)).train(self.training)

    def _path(self, peer: int) -> list[tuple[Segment, int]]:
        """The parts of a peer, each with the number of its siblings (itself included)."""
        parts, below = [(self.trunk, 1)], self.shape.peers
        for level, children in zip(self.levels, self.splits.values(), strict=True):
            below //= children
            parts.append((level[peer // below], children))  # pyright: ignore[reportIndexIssue]
        return parts

    def _run(self, peer: int, view: Tensor, done: dict[tuple[int, int], tuple[Any, ...]]) -> tuple[object, Tensor]:
        values: tuple[Any, ...] = (view,)
        *inner, (last, siblings) = self._path(peer)
        for segment, children in inner:
            key = (id(segment), id(view))
            if key not in done:
                done[key] = segment(*self._hand_down(values, children))
            values = done[key]
        output, feature = forward_with_features(last, self.classifier, *self._hand_down(values, siblings))
        return output[0], feature  # pyright: ignore[reportIndexIssue]

    def _hand_down(self, values: tuple[Any, ...], children: int) -> tuple[Any, ...]:
        x, *beside = values
        if self.rescale_shared_gradients and children > 1:
            x = scale_gradient(x, 1 / children)
        # A part that begins with an in-place operation would spoil its siblings' input.
        return (x.clone() if self._mutates and children > 1 else x, *beside)


def _look_at_cuts(segments: nn.Module, images: Tensor, order: Sequence[str]) -> tuple[int, int, bool]:
    """The channel axis and width of the trunk's output, and whether any part changes its input in place."""
    trunk, *rest = segments.children()
    values, shape, mutates = trunk(images), None, False
    for segment, split in zip(rest, order, strict=True):
        x = values[0]
        if not isinstance(x, Tensor):
            raise UserError(
                f"split {split!r}: a {type(x).__name__} crosses it, and one tensor must; choose another module."
            )
        shape, version = shape or x.shape, x._version
        values = segment(*values)
        mutates = mutates or x._version != version
    assert shape is not None
    axis = channel_axis(shape)
    return axis, shape[axis], mutates


def _refuse_classifier_in_trunk(last: Segment, classifier: Classifier, split: str) -> None:
    own = dict(last.named_modules())
    for what, path in (("classifier", classifier.name), ("feature layer", classifier.features)):
        if path not in own or split.startswith(f"{path}."):
            raise UserError(
                f"split {split!r} comes after the {what} {path!r}: every branch must own one; choose an earlier module."
            )
