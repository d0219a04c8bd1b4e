"""What is done where some classes have few images: weights in the loss, and an order that shows them more often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["balanced_draw", "check_weights", "class_weights", "sample_weights"]


def check_weights(weights: str | Sequence[float], classes: int) -> None:
    """UserError unless there is a weight for each class, where they are given as numbers."""
    if not isinstance(weights, str) and len(weights) != classes:
        raise UserError(f"{len(weights)} class_weights for {classes} classes: give one for each class, or balanced.")


def class_weights(weights: str | Sequence[float], labels_N: Tensor, classes: int) -> Tensor | None:
    """Return a weight per class, float32 [C], with a mean of 1 over the training images; None for equal weights.

    Args:
        weights: "none"; "balanced", in inverse proportion to the number of images; or one number per class.
        labels_N: of the training images.
        classes: C.

    Raises:
        UserError: another number of weights than classes, or the classes that have images all have weight 0.
    """
    if weights == "none":
        return None
    check_weights(weights, classes)
    count_C = labels_N.bincount(minlength=classes).double()
    if weights == "balanced":
        # A class whose images were all set aside has no say in the mean.
        given_C = torch.where(count_C > 0, 1 / count_C.clamp_min(1), 0)
    else:
        given_C = torch.tensor([float(w) for w in weights], dtype=torch.float64)
    mean = (given_C * count_C).sum() / count_C.sum()
    if mean == 0:
        raise UserError("class_weights that are 0 for all classes that have training images: give some above 0.")
    return (given_C / mean).float()


def sample_weights(weights_C: Tensor, labels: Tensor) -> Tensor:
    """Return each image's weight, [B]; for mixed labels [B, C] the mean over its classes."""
    return labels.to(weights_C.dtype) @ weights_C if labels.is_floating_point() else weights_C[labels]


def balanced_draw(labels_N: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Return N indices of images in which every class that has images is equally often, to within one.

    A class shows each of its images equally often, to within one: the images of rare classes several times, and of
    frequent ones a random part. The order is class by class.

    Args:
        labels_N: of the images to draw from.
        classes: C.
        generator: CPU generator.
    """
    members = [(labels_N == c).nonzero().squeeze(1) for c in range(classes)]
    members = [index_n for index_n in members if len(index_n)]
    share, rest = divmod(len(labels_N), len(members))
    more = set(torch.randperm(len(members), generator=generator)[:rest].tolist())
    drawn = []
    for place, index_n in enumerate(members):
        wanted = share + (place in more)
        rounds = -(-wanted // len(index_n))
        shuffled = [index_n[torch.randperm(len(index_n), generator=generator)] for _ in range(rounds)]
        drawn += [torch.cat(shuffled)[:wanted]] if rounds else []
    return torch.cat(drawn)
