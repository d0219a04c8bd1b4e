"""Peers on a tree of shared layers: hierarchical sharing (CLNN; Song & Chai 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.peers.logits import Output
from codistill.peers.shared import SharedGroup
from codistill.peers.unwrap import unwrap

__all__ = ["TreeGroup", "check_splits"]


class TreeGroup(SharedGroup):
    """At every split each path forks into as many children as given: {"layer3": 2, "layer4": 2} makes 2 x 2 = 4 heads.

    Peers are numbered from left to right: 0 and 1 share layer3 in this example, and so do 2 and 3. For all else see
    `BranchedGroup`, which is the tree with one split.

    Args:
        net: any classification network that torch.fx can follow around the splits.
        splits: module path -> number of children, 2 or more; their order is that of execution, however they are given.
        generator: on the CPU; draws the parameters of all copies, level by level.
        classifier: see `BranchedGroup`.
        features: see `BranchedGroup`.
        output: see `NetworkGroup`.
        class_axis: see `NetworkGroup`.
        keep_weights: see `BranchedGroup`.
        example: see `BranchedGroup`.

    Raises:
        UserError: no split, a split with fewer than two children, two splits that begin at the same place, and all that
            `BranchedGroup` refuses.
    """

    def __init__(
        self,
        net: nn.Module,
        splits: Mapping[str, int],
        generator: torch.Generator | None = None,
        *,
        classifier: str | None = None,
        example: Tensor | None = None,
        features: str | None = None,
        output: Output | None = None,
        class_axis: int = -1,
        keep_weights: bool = False,
    ) -> None:
        check_splits(splits)
        (net,), _ = unwrap([net], keep=True)
        super().__init__(net, splits, generator, classifier, example, features, output, class_axis, keep_weights)


def check_splits(splits: Mapping[str, int]) -> None:
    """UserError where there is no split, or one with fewer than two children."""
    if not splits:
        raise UserError('no splits: name at least one module and its number of children, such as {"layer3": 2}.')
    for name, children in splits.items():
        if children < 2:
            raise UserError(f"split {name!r} with {children} child(ren): give 2 or more, or leave this split out.")
