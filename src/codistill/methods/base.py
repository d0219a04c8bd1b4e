"""What every method is: outputs of peers and labels in, a loss and its parts out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.losses import read_freely, wide
from codistill.methods.checks import check_sample_weights, check_values
from codistill.methods.contract import check_needs_met, check_step
from codistill.methods.rows import Rows, feature_rows, pooled, spread
from codistill.methods.unmoved import Unmoved
from codistill.types import GroupShape, Needs, PeerOutputs, Progress, StepOutput

__all__ = ["Method", "Rows"]


class Method(nn.Module):
    """Base of all methods. A subclass implements `step` and sets the class attributes that apply to it.

    Args:
        shape: sizes of the group.
        options: the options that `needs_of` looks at, where it looks at any.

    Attributes:
        min_peers, max_peers: how many students the method has a meaning for.
        usual_peers: how many a run trains that names no number.
        soft_labels: whether labels may be probabilities.
        needs: what it asks of group and executor, see `Needs`.
        leader: index of the student that the method itself names for deployment, or None.
        deploys_average: whether the student to deploy is a moving average of its weights (needs `averaged`).
        recordable: whether a step may be recorded once as a CUDA graph and replayed: it draws no random numbers, keeps
            no Python state from step to step, and reads no values of tensors. May be set per instance.
        label_smoothing: share of each label that the rows' cross-entropy spreads over all classes; a run sets it.
        used_options: options that a preset or the group decides as well, with the values that the method uses.
    """

    min_peers: ClassVar[int] = 2
    max_peers: ClassVar[int | None] = None
    usual_peers: ClassVar[int] = 4
    soft_labels: ClassVar[bool] = True
    deploys_average: ClassVar[bool] = False
    recordable: bool = True
    label_smoothing: float = 0.0
    used_options: Mapping[str, Any] = MappingProxyType({})
    needs: Needs = Needs()

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> Needs:
        """What the method needs with these options (all of its keywords that are not left at their default).

        It is asked before group and method are built. Overridden where the needs depend on options; else the class
        attribute `needs` holds them.
        """
        return cls.needs

    def __init__(self, shape: GroupShape, **options: Any) -> None:
        super().__init__()
        self.shape = shape
        self.needs = self.needs_of(options)
        self.leader: int | None = None
        self._unmoved = Unmoved()
        name = type(self).__name__
        if shape.peers < self.min_peers:
            raise UserError(f"{name} with {shape.peers} peer(s): it needs at least {self.min_peers}; add peers.")
        if self.max_peers is not None and shape.peers > self.max_peers:
            raise UserError(
                f"{name} with {shape.peers} peers: it takes {self.max_peers}; for more networks use the method "
                "'ind' (without distillation) or 'dml'."
            )
        if self.needs.trunk and shape.trunk_width is None:
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
        check_step(step, type(self).__name__, self.shape.peers, learns, self.needs.turns)
        if learns:
            self._unmoved.look(self, outputs.logits_PBC)
        return step

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """Return the loss of one batch of rows; the one thing that a method must define."""
        raise AssertionError(f"{type(self).__name__} defines no step")

    def renew(self, probs_PNC: Tensor, labels_N: Tensor) -> None:
        """After every epoch: read the peers' probabilities on the held-out part (called if `needs.held_out` > 0)."""

    def own_ensemble(self, outputs: PeerOutputs) -> Tensor | None:
        """Logits [B, ..., C] of an ensemble that the method itself forms without labels, scored in every evaluation.

        None where it forms none: the means of probabilities and of logits are scored for every group.
        """
        return None

    def cautions(self) -> list[str]:
        """What the user should know before training begins, a sentence each; `train` and a dry run print it."""
        return []

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
        weights_N = None if weights is None else spread(weights, batch).to(logits.dtype)
        labels_rows = labels.reshape(-1, C) if soft else labels.reshape(-1)
        if ignore_index is not None and not soft:
            kept_N = labels_rows != ignore_index
            weights_N = kept_N.to(logits.dtype) if weights_N is None else weights_N * kept_N
            labels_rows = torch.where(kept_N, labels_rows, 0)
        if read_freely(logits):
            check_values(logits, labels_rows, soft)
        return Rows(
            logits_PNC=logits.reshape(P, -1, C),
            labels=labels_rows,
            weights_N=weights_N,
            label_smoothing=self.label_smoothing,
            **self._optional_rows(outputs, batch, C),
        )

    def _optional_rows(self, outputs: PeerOutputs, batch: torch.Size, C: int) -> dict[str, Any]:
        """What the method has asked for, as rows; what it has not asked for is left out."""
        needs, trunk = self.needs, outputs.trunk_features

        def rows(logits: Tensor | None, stacked: bool = True) -> Tensor | None:
            if logits is None:
                return None
            return wide(logits).reshape(len(logits), -1, C) if stacked else wide(logits).reshape(-1, C)

        def listed(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(feature_rows(wide(h), batch) for h in features)

        return {
            "features": listed(outputs.features) if needs.features else (),
            "trunk_ND": pooled(wide(trunk)) if needs.trunk and trunk is not None else None,
            "teacher_logits_KNC": rows(outputs.teacher_logits_KBC),
            "mixed_NC": rows(outputs.mixed_logits, stacked=False) if needs.mixed else None,
            "averaged_PNC": rows(outputs.averaged_logits_PBC),
            "averaged_features": listed(outputs.averaged_features) if needs.averaged is not None else (),
            "heads": {path: rows(outputs.head_logits[path]) for path in needs.heads},
            "outputs": outputs,
        }

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
            check_sample_weights(weights, logits)
        check_needs_met(self.needs, outputs, type(self).__name__)
        self._check_features(outputs)

    def _check_features(self, outputs: PeerOutputs) -> None:
        batch, needs = outputs.logits_PBC.shape[1:-1], self.needs
        for peer, (h, width) in enumerate(zip(outputs.features, self.shape.feature_widths, strict=False)):
            if needs.features and (h.shape[-1] != width or h.shape[:-1] not in (batch, batch[:1])):
                raise UserError(
                    f"features of peer {peer} have shape {list(h.shape)}: give {[*batch, width]} or "
                    f"{[batch[0], width]}, the width that the method was built for."
                )
        trunk = outputs.trunk_features
        if needs.trunk and trunk is not None and trunk.shape[1] != self.shape.trunk_width:
            raise UserError(
                f"trunk features have shape {list(trunk.shape)}: give {[batch[0], self.shape.trunk_width]}, the width "
                "that the method was built for."
            )
