"""The implementation of groups whose peers share layers: a tree of parts. A branched group is a tree with one split."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codistill.errors import UserError, unknown
from codistill.models.init import draw_generator, initialise, rule_of
from codistill.needs import LAST_MAP
from codistill.peers.base import PeerGroup
from codistill.peers.features import Classifier, find_classifier
from codistill.peers.gradients import scale_gradient
from codistill.peers.logits import LogitsReader, Output
from codistill.peers.observe import find_last_map, run_observed, shapes_of_maps, the_input
from codistill.peers.pooling import channel_axis, pool
from codistill.peers.student import assemble
from codistill.tracing.probe import probe
from codistill.tracing.segment import Segment
from codistill.tracing.split import split_network
from codistill.types import GroupShape, PeerOutputs

__all__ = ["SharedGroup"]


@dataclass(frozen=True)
class _Ran:
    """What a segment has put out for one view."""

    values: tuple[Any, ...]
    maps: dict[str, Tensor]


class SharedGroup(PeerGroup):
    """A trunk, and at every split copies of what follows; see BranchedGroup and TreeGroup for the user's side.

    Attributes:
        trunk: the part that all peers share, with the given weights.
        levels: for each split its copies, freshly initialised (the classifiers alone with `keep_weights`); copy i of a
            level hangs on copy i // children of the level before. State-dict names are `trunk.NAME` and
            `levels.SPLIT.COPY.NAME`, NAME as in the plain network.
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
        output: Output | None,
        class_axis: int,
        keep_weights: bool = False,
    ) -> None:
        super().__init__()
        source, reader = draw_generator(generator), LogitsReader(output, class_axis)
        self.classifier, images = find_classifier(net, classifier, example, features, reader)
        self.reader = dataclasses.replace(reader, num_classes=self.classifier.num_classes)
        self._example = images.to("meta")
        self.image_shape, self.input_dtype = tuple(images.shape[1:]), images.dtype
        # In a tuple, so that the plain network is not a submodule: it only lends its class and its unused parts.
        self._plain = (copy.deepcopy(net),)
        order, segments = split_network(copy.deepcopy(net), list(splits), images, output is None)
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
        if keep_weights:
            self._keep(net)

    @torch.no_grad()
    def _keep(self, net: nn.Module) -> None:
        given = net.state_dict()
        for peer in range(self.shape.peers):
            for name, value in self.peer_state(peer).items():
                if name in given and not name.startswith(f"{self.classifier.name}."):
                    value.copy_(given[name])

    def path(self, peer: int) -> list[Segment]:
        """The parts that a peer runs through, from the trunk to its own; UserError where there is no such peer."""
        return [segment for segment, _ in self._path(self._check_peer(peer))]

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """All peers' outputs; every segment runs once for each distinct view among its peers. See `PeerGroup.forward`.

        `trunk_features` are the trunk's output, pooled; with several views, the mean over the peers' views.
        """
        each_view = self.view_of_each(views)
        done: dict[tuple[int, int], _Ran] = {}
        ran = [self._run(peer, view, done) for peer, view in enumerate(each_view)]
        maps = {name: tuple(maps[name] for _, _, maps in ran) for name in self.maps}
        return PeerOutputs(
            torch.stack([logits_BC for logits_BC, _, _ in ran]),
            tuple(features for _, features, _ in ran),
            self._pool_trunk([done[id(self.trunk), id(view)].values for view in each_view]),
            maps=maps,
            head_logits=self.head_logits(maps),
        )

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

    def peer_parameters(self, peer: int) -> dict[str, nn.Parameter]:
        """See `PeerGroup.peer_parameters`."""
        return {name: p for segment in self.path(peer) for name, p in segment.named_parameters()}

    def peer_modules(self, peer: int) -> dict[str, nn.Module]:
        """See `PeerGroup.peer_modules`."""
        return {path: module for segment in self.path(peer) for path, module in segment.named_modules()}

    def peer_state(self, peer: int) -> dict[str, Tensor]:
        """See `PeerGroup.peer_state`."""
        return {name: value for segment in self.path(peer) for name, value in segment.state_dict().items()}

    def classifier_of(self, peer: int) -> str:
        """See `PeerGroup.classifier_of`."""
        return self.classifier.name

    def plain_network(self, peer: int) -> nn.Module:
        """See `PeerGroup.plain_network`."""
        return self._plain[0]

    def _path(self, peer: int) -> list[tuple[Segment, int]]:
        """The parts of a peer, each with the number of its siblings (itself included)."""
        parts, below = [(self.trunk, 1)], self.shape.peers
        for level, children in zip(self.levels, self.splits.values(), strict=True):
            below //= children
            parts.append((level[peer // below], children))  # pyright: ignore[reportIndexIssue]
        return parts

    def _run(
        self, peer: int, view: Tensor, done: dict[tuple[int, int], _Ran]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """A peer's logits, features and maps; `done` keeps what segments have put out that other peers run too."""
        values: tuple[Any, ...] = (view,)
        maps: dict[str, Tensor] = {}
        *inner, (last, siblings) = self._path(peer)
        for level, (segment, children) in enumerate(inner):
            key = (id(segment), id(view))
            if key not in done:
                out, _, left = run_observed(segment, self._watched(level), None, *self._hand_down(values, children))
                done[key] = _Ran(out, left)
            values, maps = done[key].values, maps | done[key].maps
        given = self._hand_down(values, siblings)
        out, entered, left = run_observed(last, self._watched(len(inner)), self.classifier.features, *given)
        features = self.classifier.features_of(the_input(entered, last))
        # The last segment puts out what the network returns, and nothing else.
        return self.reader(out[0], view), features, maps | left

    def _watched(self, level: int) -> dict[str, str]:
        """The maps that a segment of this level puts out, by name."""
        return {name: paths[0] for name, paths in self.maps.items() if self._level_of(paths[0]) == level}

    def _level_of(self, path: str) -> int:
        first_of_levels = [self.trunk, *(next(level.children()) for level in self.levels)]
        holding = [i for i, segment in enumerate(first_of_levels) if path in dict(segment.named_modules())]
        return holding[-1]

    def _find_map(self, name: str) -> tuple[str, ...]:
        plain = self._plain[0]
        whole = [known for known, _ in plain.named_modules() if self._is_whole(known)]
        path = find_last_map(plain, self._example, whole) if name == LAST_MAP else name
        if path and path in dict(plain.named_modules()) and path not in whole:
            raise UserError(
                f"map {path!r} is no module of its own here: it does not run, or the split {', '.join(self.splits)} "
                "lies inside it; name a module on one side of the split."
            )
        if path not in whole:
            raise unknown("map", path, whole)
        return (path,) * self.shape.peers

    def _is_whole(self, path: str) -> bool:
        """Whether a part runs the module of this path, or one that holds it, as a whole."""
        parts = [self.trunk, *(next(level.children()) for level in self.levels)]
        return any(part.calls(path) for part in parts)

    def _map_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        watched = {name: paths[0] for name, paths in self.maps.items()}
        shapes = probe(self._plain[0], self._example, lambda ghost, x: shapes_of_maps(ghost, watched, x))
        return {name: (shape,) * self.shape.peers for name, shape in shapes.items()}

    def _hand_down(self, values: tuple[Any, ...], children: int) -> tuple[Any, ...]:
        x, *side_values = values
        if self.rescale_shared_gradients and children > 1:
            x = scale_gradient(x, 1 / children)
        # A part that begins with an in-place operation would spoil its siblings' input.
        return (x.clone() if self._mutates and children > 1 else x, *side_values)


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
