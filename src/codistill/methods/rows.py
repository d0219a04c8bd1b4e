"""One batch as rows, images and the positions of dense predictions alike: what a method's step works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codistill.losses import cross_entropy, weighted_mean
from codistill.types import PeerOutputs

__all__ = ["Rows", "feature_rows", "pooled", "spread"]


@dataclass(frozen=True)
class Rows:
    """One batch as rows: positions of dense predictions are rows like images, N = B times the positions.

    Attributes:
        logits_PNC: [P, N, C].
        labels: class indices [N], or probabilities [N, C].
        features: for each peer [N, D_p]; empty unless the method needs `features`.
        trunk_ND: [N, D], or None unless the method needs `trunk`.
        teacher_logits_KNC: [K, N, C] of frozen teachers, or None.
        weights_N: weight of every row in the batch mean, or None for equal weights.
        mixed_NC: [N, C] of the network whose weights are the mean of the peers', or None unless `mixed` is needed.
        averaged_PNC: [P, N, C] of the peers' moving averages, or None unless `averaged` is needed.
        averaged_features: the features of these, for each peer [N, D_p].
        heads: path -> [P, N, C] of the extra classifiers after that module.
        outputs: all that the peers have put out, as it came, the maps [B, D, H, W] among it.
        label_smoothing: ε of `cross_entropy`; `labels` are without it.
    """

    logits_PNC: Tensor
    labels: Tensor
    features: tuple[Tensor, ...] = ()
    trunk_ND: Tensor | None = None
    teacher_logits_KNC: Tensor | None = None
    weights_N: Tensor | None = None
    mixed_NC: Tensor | None = None
    averaged_PNC: Tensor | None = None
    averaged_features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: PeerOutputs | None = None
    label_smoothing: float = 0.0

    def mean(self, values: Tensor) -> Tensor:
        """Batch mean over the rows, [..., N] -> [...]."""
        return weighted_mean(values, self.weights_N)

    def cross_entropy_P(self) -> Tensor:
        """Each student's cross-entropy with the labels, [P]."""
        P = self.logits_PNC.shape[0]
        return self.mean(self._smoothed(self.logits_PNC, self.labels.expand(P, *self.labels.shape)))

    def cross_entropy(self, logits_NC: Tensor) -> Tensor:
        """The cross-entropy of other logits (an ensemble's) with the labels, a scalar."""
        return self.mean(self._smoothed(logits_NC, self.labels))

    def _smoothed(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, self.label_smoothing)


def spread(weights: Tensor, batch: torch.Size) -> Tensor:
    """[B] or [B, ...] -> one weight for every row."""
    return weights.reshape(*weights.shape, *[1] * (len(batch) - weights.ndim)).expand(batch).reshape(-1)


def feature_rows(feature: Tensor, batch: torch.Size) -> Tensor:
    """[B, ..., D] -> [N, D]; a feature of the whole sample, [B, D], stands at each of its positions."""
    if feature.ndim == len(batch) + 1:
        return feature.reshape(-1, feature.shape[-1])
    spread = feature.reshape(feature.shape[0], *[1] * (len(batch) - 1), feature.shape[-1])
    return spread.expand(*batch, feature.shape[-1]).reshape(-1, feature.shape[-1])


def pooled(trunk: Tensor) -> Tensor:
    """[B, D, ...] -> [B, D], the global average over positions."""
    return trunk.flatten(2).mean(-1) if trunk.ndim > 2 else trunk
