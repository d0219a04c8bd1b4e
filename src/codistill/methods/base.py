"""What every method is: outputs of peers and labels in, a loss and its parts out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.losses import cross_entropy, weighted_mean, wide
from codistill.methods.contract import check_step
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

__all__ = ["Method", "Rows", "check_choice", "check_temperature", "check_weight", "pooled"]


@dataclass(frozen=True)
class Rows:
    """One batch as rows: positions of dense predictions are rows like images, N = B times the positions.

    Attributes:
        logits_PNC: [P, N, C].
        labels: class indices [N], or probabilities [N, C].
        features: for each peer [N, D_p]; empty where the method reads none.
        trunk_ND: [N, D] or None.
        teacher_logits_KNC: [K, N, C] of frozen teachers, or None.
        weights_N: weight of every row in the batch mean, or None for equal weights.
    """

    logits_PNC: Tensor
    labels: Tensor
    features: tuple[Tensor, ...] = ()
    trunk_ND: Tensor | None = None
    teacher_logits_KNC: Tensor | None = None
    weights_N: Tensor | None = None

    def mean(self, values: Tensor) -> Tensor:
        """Batch mean over the rows, [..., N] -> [...]."""
        return weighted_mean(values, self.weights_N)

    def cross_entropy_P(self) -> Tensor:
        """Each student's cross-entropy with the labels, [P]."""
        P = self.logits_PNC.shape[0]
        return self.mean(cross_entropy(self.logits_PNC, self.labels.expand(P, *self.labels.shape)))


class Method(nn.Module):
    """Base of all methods. A subclass implements `step` and sets the class attributes that apply to it.

    Attributes:
        min_peers, max_peers: how many students the method has a meaning for.
        reads_features, reads_trunk: which optional outputs it needs.
        soft_labels: whether labels may be probabilities.
        rescales_shared_gradients: whether gradients into shared layers are divided by the number of children.
        held_out: share of the training set that the method keeps aside (0: none); see `renew`.
        leader: index of the student that the method itself names for deployment, or None.
        alternating: whether every student is updated from a fresh prediction of all, one after the other.
    """

    min_peers: ClassVar[int] = 2
    max_peers: ClassVar[int | None] = None
    reads_features: ClassVar[bool] = False
    reads_trunk: ClassVar[bool] = False
    soft_labels: ClassVar[bool] = True
    rescales_shared_gradients: ClassVar[bool] = False

    def __init__(self, shape: GroupShape) -> None:
        super().__init__()
        self.shape = shape
        self.leader: int | None = None
        self.held_out = 0.0
        self.alternating = False
        name = type(self).__name__
        if shape.peers < self.min_peers:
            raise UserError(f"{name} with {shape.peers} peer(s): it needs at least {self.min_peers}; add peers.")
        if self.max_peers is not None and shape.peers > self.max_peers:
            raise UserError(
                f"{name} with {shape.peers} peers: it takes {self.max_peers}; for several networks without "
                "distillation use the method 'ind'."
            )
        if self.reads_trunk and shape.trunk_width is None:
            raise UserError(f"{name} needs peers that share a trunk: use a branched group or a tree, not networks.")

    def forward(
        self,
        outputs: PeerOutputs,
        labels: Tensor,
        progress: Progress,
        sample_weights: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> StepOutput:
        """Return the loss of one batch.

        Args:
            outputs: what the peers put out; logits [P, B, ..., C].
            labels: class indices [B, ...] (int64), or probabilities [B, ..., C] for methods that allow soft labels.
            progress: position in the run, for ramp-ups.
            sample_weights: non-negative weights [B] or [B, ...]; the batch mean becomes the weighted mean.
            ignore_index: rows with this label (a class index) count for nothing.

        Raises:
            UserError: shapes, types or devices do not fit, or the step gives something else than a `StepOutput` says;
                on the CPU also for labels out of range and logits that are not finite (on other devices these checks
                would stall the device and are left to the caller).
        """
        rows = self._rows(outputs, labels, sample_weights, ignore_index)
        step = self.step(rows, progress)
        learns = torch.is_grad_enabled() and outputs.logits_PBC.requires_grad
        check_step(step, type(self).__name__, self.shape.peers, learns, self.alternating)
        return step

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """Return the loss of one batch of rows; the one thing that a method must define."""
        raise AssertionError(f"{type(self).__name__} defines no step")

    def renew(self, probs_PNC: Tensor, labels_N: Tensor) -> None:
        """After every epoch: read the peers' probabilities on the held-out part (only called if `held_out` > 0)."""

    def own_ensemble(self, outputs: PeerOutputs) -> Tensor | None:
        """Logits [B, ..., C] of an ensemble that the method itself forms without labels, scored in every evaluation.

        None where it forms none: the means of probabilities and of logits are scored for every group.
        """
        return None

    def concerns(self, diagnostics: Mapping[str, Any]) -> list[str]:
        """What the user should know about an epoch, a sentence each; the run prints and records it once.

        Args:
            diagnostics: the epoch's means of `StepOutput.diagnostics`, as nested lists.
        """
        return []

    def _rows(self, outputs: PeerOutputs, labels: Tensor, weights: Tensor | None, ignore_index: int | None) -> Rows:
        self._check(outputs, labels, weights)
        logits = wide(outputs.logits_PBC)
        P, C = logits.shape[0], logits.shape[-1]
        batch = logits.shape[1:-1]
        soft = labels.is_floating_point()
        weights_N = None if weights is None else _spread(weights, batch).to(logits.dtype)
        labels_rows = labels.reshape(-1, C) if soft else labels.reshape(-1)
        if ignore_index is not None and not soft:
            kept_N = labels_rows != ignore_index
            weights_N = kept_N.to(logits.dtype) if weights_N is None else weights_N * kept_N
            labels_rows = torch.where(kept_N, labels_rows, 0)
        if logits.device.type == "cpu":
            _check_values(logits, labels_rows, soft)
        trunk = outputs.trunk_features if self.reads_trunk else None
        teachers = outputs.teacher_logits_KBC
        return Rows(
            logits_PNC=logits.reshape(P, -1, C),
            labels=labels_rows,
            features=tuple(_rows_of(wide(h), batch) for h in outputs.features) if self.reads_features else (),
            trunk_ND=None if trunk is None else pooled(wide(trunk)),
            teacher_logits_KNC=None if teachers is None else teachers.reshape(teachers.shape[0], -1, C),
            weights_N=weights_N,
        )

    def _check(self, outputs: PeerOutputs, labels: Tensor, weights: Tensor | None) -> None:
        logits = outputs.logits_PBC
        P, C, batch = logits.shape[0], logits.shape[-1], logits.shape[1:-1]
        if self.shape.peers != P or self.shape.num_classes != C:
            raise UserError(
                f"logits of {P} peers and {C} classes for a method built for {self.shape.peers} peers and "
                f"{self.shape.num_classes} classes: build the method from the group that it gets outputs of."
            )
        if labels.device != logits.device:
            raise UserError(f"labels are on {labels.device}, logits on {logits.device}: move both to one device.")
        soft = labels.is_floating_point()
        if soft and not self.soft_labels:
            raise UserError(
                f"{type(self).__name__} got labels as probabilities: its target is defined by the one true class; "
                "give class indices (without mixup or label smoothing)."
            )
        if not soft and labels.dtype != torch.int64:
            raise UserError(f"labels have dtype {labels.dtype}: give int64 class indices, or probabilities.")
        expected = (*batch, C) if soft else tuple(batch)
        if tuple(labels.shape) != expected:
            raise UserError(f"labels have shape {list(labels.shape)}: give {list(expected)} for these logits.")
        if weights is not None:
            _check_sample_weights(weights, logits)
        self._check_features(outputs)

    def _check_features(self, outputs: PeerOutputs) -> None:
        name, batch = type(self).__name__, outputs.logits_PBC.shape[1:-1]
        if self.reads_features and len(outputs.features) != self.shape.peers:
            raise UserError(f"{name} reads features, and got none: give one tensor [B, D] a peer.")
        if self.reads_trunk and outputs.trunk_features is None:
            raise UserError(f"{name} reads the shared trunk's features, and got none: give [B, D].")
        for peer, (h, width) in enumerate(zip(outputs.features, self.shape.feature_widths, strict=False)):
            if self.reads_features and (h.shape[-1] != width or h.shape[:-1] not in (batch, batch[:1])):
                raise UserError(
                    f"features of peer {peer} have shape {list(h.shape)}: give {[*batch, width]} or "
                    f"{[batch[0], width]}, the width that the method was built for."
                )
        trunk = outputs.trunk_features
        if self.reads_trunk and trunk is not None and trunk.shape[1] != self.shape.trunk_width:
            raise UserError(
                f"trunk features have shape {list(trunk.shape)}: give {[batch[0], self.shape.trunk_width]}, the width "
                "that the method was built for."
            )


def check_temperature(temperature: float) -> float:
    """Return `temperature`; UserError where it is not positive and finite."""
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature {temperature}: it must be greater than 0 and finite; the papers use 1 to 4.")
    return float(temperature)


def check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """UserError where the option's value is none of `choices`."""
    if value not in choices:
        raise UserError(f"{option} {value!r}: choose one of {', '.join(map(repr, choices))}.")


def check_weight(option: str, value: float) -> float:
    """Return the weight of a term; UserError where it is negative, infinite or not a number."""
    if not 0 <= value < math.inf:
        raise UserError(f"{option} {value}: it must be 0 or more, and finite.")
    return float(value)


def _check_sample_weights(weights: Tensor, logits: Tensor) -> None:
    batch = logits.shape[1:-1]
    if weights.device != logits.device:
        raise UserError(f"sample weights are on {weights.device}, logits on {logits.device}: move both to one device.")
    if weights.ndim > len(batch) or weights.shape != batch[: weights.ndim]:
        raise UserError(f"sample weights have shape {list(weights.shape)}: give [{batch[0]}] or {list(batch)}.")
    if weights.device.type == "cpu" and not bool(((weights >= 0) & (weights < math.inf)).all()):
        raise UserError(
            "sample weights that are below 0, infinite or NaN: a weight says how much a sample counts; give 0 or more."
        )


def _spread(weights: Tensor, batch: torch.Size) -> Tensor:
    """[B] or [B, ...] -> one weight for every row."""
    return weights.reshape(*weights.shape, *[1] * (len(batch) - weights.ndim)).expand(batch).reshape(-1)


def _rows_of(feature: Tensor, batch: torch.Size) -> Tensor:
    """[B, ..., D] -> [N, D]; a feature of the whole sample, [B, D], stands at each of its positions."""
    if feature.ndim == len(batch) + 1:
        return feature.reshape(-1, feature.shape[-1])
    spread = feature.reshape(feature.shape[0], *[1] * (len(batch) - 1), feature.shape[-1])
    return spread.expand(*batch, feature.shape[-1]).reshape(-1, feature.shape[-1])


def pooled(trunk: Tensor) -> Tensor:
    """[B, D, ...] -> [B, D], the global average over positions."""
    return trunk.flatten(2).mean(-1) if trunk.ndim > 2 else trunk


def _check_values(logits: Tensor, labels_rows: Tensor, soft: bool) -> None:
    # The sum is finite unless an entry is not (or the entries overflow it, which the second look tells apart).
    if not torch.isfinite(logits.detach().sum()):
        for peer, logits_p in enumerate(logits.detach()):
            if not torch.isfinite(logits_p).all():
                raise UserError(
                    f"logits of peer {peer} hold NaN or infinity: the training of this peer has diverged; "
                    "lower its learning rate, or look at its input."
                )
    C = logits.shape[-1]
    if soft:
        # Labels in half precision are rounded to three digits (bfloat16: two), and their sum with them.
        near = 1e-3 if labels_rows.dtype in (torch.float32, torch.float64) else 2e-2
        sums_N = wide(labels_rows).sum(-1)
        if labels_rows.numel() and not (bool((labels_rows >= 0).all()) and bool(((sums_N - 1).abs() < near).all())):
            raise UserError(
                "labels as probabilities that are negative or do not sum to one: every row must be a distribution over "
                "the classes."
            )
    elif labels_rows.numel():
        low, high = (int(v) for v in torch.aminmax(labels_rows))
        if low < 0 or high >= C:
            raise UserError(
                f"label {low if low < 0 else high} with {C} classes: labels must be 0 to {C - 1}; "
                "pass ignore_index for labels to be left out."
            )
