"""Figures in which every class counts alike: balanced error, macro F1, area under the ROC curve; and the confusions.

All in percent, for M predictors at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LARGEST", "ClassCounts", "auroc"]

LARGEST = 100
"""Classes up to which the matrix of confusions is counted."""


class ClassCounts:
    """Images by true and by predicted class, summed over batches on the device.

    Args:
        members: M.
        peers: the first P of them, whose confusions are counted.
        classes: C.
        like: a tensor of the dtype and device of the sums.
    """

    def __init__(self, members: int, peers: int, classes: int, like: Tensor) -> None:
        self.P, self.C = peers, classes
        self.true_C = like.new_zeros(classes)
        self.predicted_MC, self.hit_MC = like.new_zeros(members, classes), like.new_zeros(members, classes)
        self.confusion_PK = like.new_zeros(peers, classes**2) if classes <= LARGEST else None

    def update(self, predicted_MB: Tensor, labels_B: Tensor) -> None:
        """Add a batch: predicted classes and true ones."""
        one_MB = torch.ones_like(predicted_MB, dtype=self.true_C.dtype)
        hit_MB = (predicted_MB == labels_B).to(self.true_C.dtype)
        self.true_C.scatter_add_(0, labels_B, one_MB[0])
        self.predicted_MC.scatter_add_(1, predicted_MB, one_MB)
        self.hit_MC.scatter_add_(1, labels_B.expand_as(predicted_MB), hit_MB)
        if self.confusion_PK is not None:
            pair_PB = labels_B * self.C + predicted_MB[: self.P]
            self.confusion_PK.scatter_add_(1, pair_PB, one_MB[: self.P])

    def balanced_error_M(self) -> list[float]:
        """The mean error of the classes that have images."""
        there_C = self.true_C > 0
        recall_MC = self.hit_MC[:, there_C] / self.true_C[there_C]
        return ((1 - recall_MC.mean(1)) * 100).tolist()

    def macro_f1_M(self) -> list[float]:
        """The mean F1 of the classes that have images or are predicted."""
        sum_MC = self.true_C + self.predicted_MC
        f1_MC = 2 * self.hit_MC / sum_MC.clamp_min(1)
        return (f1_MC.sum(1) / (sum_MC > 0).sum(1).clamp_min(1) * 100).tolist()

    def confusion(self, peer: int) -> tuple[tuple[int, ...], ...] | None:
        """Images of a peer by true class (row) and predicted class (column)."""
        if self.confusion_PK is None:
            return None
        rows = self.confusion_PK[peer].view(self.C, self.C).long().tolist()
        return tuple(tuple(row) for row in rows)


def auroc(prob_NC: Tensor, labels_N: Tensor) -> float:
    """Return the area under the ROC curve, each class against all others, as a mean over the classes that can have one.

    That are those with images, but not all of them. NaN where there is none, or where predictions are not finite.

    Args:
        prob_NC: on any device.
        labels_N: true classes.
    """
    from sklearn.metrics import roc_auc_score  # late: it is slow to import

    prob, labels = prob_NC.cpu().double().numpy(), labels_N.cpu().numpy()
    classes = [c for c in range(prob.shape[1]) if 0 < (labels == c).sum() < len(labels)]
    if not classes or not bool(torch.isfinite(prob_NC).all()):
        return float("nan")
    return 100 * float(sum(roc_auc_score(labels == c, prob[:, c]) for c in classes)) / len(classes)
