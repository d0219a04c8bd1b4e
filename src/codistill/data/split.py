"""Chooses images for training, by seed and class or by whole groups; never with torch's global generator."""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from codistill.data.types import Images
from codistill.errors import UserError

__all__ = ["fixed_test_split", "split_validation", "take_subset"]

_TEST_SHARE = 0.2
_TEST_SEED = 20200207
"""A constant, so that runs of every seed have the same test set if a data set comes without one."""


def split_validation(train: Images, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split the training images into a training and a validation part.

    Without groups, each class gives its share, up to rounding, and keeps at least one training image. With groups,
    whole groups are drawn until the fraction is reached.

    Args:
        train: the images to split.
        fraction: share of the images for validation, above 0 and below 1.
        generator: CPU generator that draws them.

    Returns:
        (train_index_N, validation_index_N): int64, ascending; every image is in exactly one of them.

    Raises:
        UserError: the fraction is out of range, or leaves one part empty.
    """
    if not 0 < fraction < 1:
        raise UserError(f"validation {fraction}: give a share above 0 and below 1.")
    if train.groups_N is None:
        drawn_N = _draw_by_class(train.labels_N, round(len(train) * fraction), generator)
    else:
        drawn_N = _draw_groups(train.groups_N, len(train) * fraction, generator)
    kept, drawn = (~drawn_N).nonzero().squeeze(1), drawn_N.nonzero().squeeze(1)
    if not len(kept) or not len(drawn):
        of = "" if train.groups_N is None else f" in {len(train.groups_N.unique())} groups"
        raise UserError(
            f"validation {fraction} of {len(train)} images{of}: one part would be empty; give another share or more "
            "images."
        )
    return kept, drawn


def fixed_test_split(labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Set 20 % of each class aside as the test set, the same for every run.

    Returns:
        (train_index_N, test_index_N): int64, ascending.

    Raises:
        UserError: there are too few images for a test set.
    """
    generator = torch.Generator().manual_seed(_TEST_SEED)
    drawn_N = _draw_by_class(labels_N, round(len(labels_N) * _TEST_SHARE), generator)
    if not drawn_N.any():
        raise UserError(
            f"{len(labels_N)} images in {len(labels_N.unique())} classes: 20 % of each class is set aside as the test "
            "set, which would be empty; give more images, at least two in some class."
        )
    return (~drawn_N).nonzero().squeeze(1), drawn_N.nonzero().squeeze(1)


def take_subset(index_N: Tensor, labels_N: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw exactly `size` of the given indices: the same share of every class, and at least one image of each.

    Args:
        index_N: indices to choose from.
        labels_N: the label of each of them.
        size: how many to return.
        generator: CPU generator that draws them.

    Returns:
        int64 [size], in the order of `index_N`.

    Raises:
        UserError: `size` is larger than the number of indices, or smaller than the number of classes.
    """
    classes = len(labels_N.unique())
    if not classes <= size <= len(index_N):
        raise UserError(
            f"train_subset {size} of {len(index_N)} images in {classes} classes: give at least one image per class "
            "and at most all of them."
        )
    return index_N[_draw_by_class(labels_N, size, generator, lowest=1)]


def _draw_by_class(labels_N: Tensor, size: int, generator: torch.Generator, lowest: int = 0) -> Tensor:
    """A mask of `size` images. With `lowest` 0 every class keeps one image undrawn, so fewer may be drawn."""
    count_C = labels_N.bincount()
    most = count_C.tolist() if lowest else [max(count - 1, 0) for count in count_C.tolist()]
    quota_C = torch.tensor(_apportion(count_C.tolist(), min(size, sum(most)), lowest, most))
    order_N = torch.randperm(len(labels_N), generator=generator)
    by_class_N = order_N[labels_N[order_N].argsort(stable=True)]
    sorted_N = labels_N[by_class_N]
    first_C = count_C.cumsum(0) - count_C
    rank_N = torch.arange(len(labels_N)) - first_C[sorted_N]
    drawn_N = torch.zeros(len(labels_N), dtype=torch.bool)
    drawn_N[by_class_N[rank_N < quota_C[sorted_N]]] = True
    return drawn_N


def _apportion(counts: list[int], total: int, lowest: int, most: list[int]) -> list[int]:
    """Divide `total` in proportion to `counts` by largest remainders; each share is within `lowest` and `most`."""
    whole = max(sum(counts), 1)
    exact = [count * total / whole for count in counts]
    given = [min(max(int(share), lowest), top) for share, top in zip(exact, most, strict=True)]
    surplus = sum(given) - total
    step = -1 if surplus > 0 else 1

    def waiting(c: int) -> list[tuple[float, int]]:
        """The class and how much it has too much or too little, if it may change; the smallest entry comes first."""
        changes = given[c] < most[c] if step > 0 else given[c] > min(lowest, most[c])
        return [(step * (given[c] - exact[c]), c)] if changes else []

    queue = [entry for c in range(len(given)) for entry in waiting(c)]
    heapq.heapify(queue)
    for _ in range(abs(surplus)):
        _, c = heapq.heappop(queue)
        given[c] += step
        for entry in waiting(c):
            heapq.heappush(queue, entry)
    return given


def _draw_groups(groups_N: Tensor, target: float, generator: torch.Generator) -> Tensor:
    _, group_N, count_G = groups_N.unique(return_inverse=True, return_counts=True)
    order_G = torch.randperm(len(count_G), generator=generator)
    before_G = count_G[order_G].cumsum(0) - count_G[order_G]
    drawn_G = torch.zeros(len(count_G), dtype=torch.bool)
    drawn_G[order_G[before_G < target]] = True
    return drawn_G[group_N]
