"""One trunk and several branches (branch-based OKDDip, ONE, CL-ILR)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.peers.defaults import default_split
from codistill.peers.logits import Output
from codistill.peers.shared import SharedGroup
from codistill.peers.unwrap import unwrap

__all__ = ["BranchedGroup"]


class BranchedGroup(SharedGroup):
    """All that runs before `split` is shared; every branch owns copies of everything from it on, classifier included.

    Trunk and one branch together are exactly the plain network: the same modules, state-dict names, parameters and
    outputs. The trunk keeps the given weights; all branches get new initial weights (`codistill.models.initialise`), or
    with `keep_weights` the given ones but for the classifier. The network that is given stays as it is.

    Args:
        net: any classification network that torch.fx can follow around the split; modules that do not hold the split
            are never looked into.
        branches: number of peers P, 1 or more.
        split: path of the first module of the branches ("layer3", "features.14", "blocks.8"); `default_split(net)` if
            None.
        generator: on the CPU; draws the branches' parameters. None seeds one from torch's default generator.
        classifier: path of the classifier where it is not the last linear layer that runs.
        features: path of the layer whose input is the feature vector; the network's own `feature_layer`, or the
            classifier, if None.
        output: see `NetworkGroup`.
        class_axis: see `NetworkGroup`.
        keep_weights: for a trained network: draw only the classifier of each branch, and keep all other weights.
        example: a batch of images that the network takes, square ones; needed only where it runs neither on 32, 224
            nor 299 pixels nor on the size that it names itself. The sizes in `shape` are found by a run of a copy on
            the meta device, in evaluation mode: no statistics, no random state and none of the network's values change.

    Raises:
        UserError: fewer than one branch; an unknown split (with the candidates), one that never runs, is where the
            network begins, cuts through a skip connection (named) or comes after the classifier; a layer on both sides
            of the cut; an output that is not [B, C]; no classifier.
    """

    def __init__(
        self,
        net: nn.Module,
        branches: int = 4,
        split: str | None = None,
        generator: torch.Generator | None = None,
        *,
        classifier: str | None = None,
        example: Tensor | None = None,
        features: str | None = None,
        output: Output | None = None,
        class_axis: int = -1,
        keep_weights: bool = False,
    ) -> None:
        if branches < 1:
            raise UserError(f"{branches} branches: a group has at least one peer; give 2 or more to distil.")
        (net,), _ = unwrap([net], keep=True)
        splits = {split or default_split(net): branches}
        super().__init__(net, splits, generator, classifier, example, features, output, class_axis, keep_weights)
