"""What peers put out, what a method gives back, and the legend of shape letters used in every name.

    P  peers (students) of a group           B  images of a batch
    C  classes                               D  width of a feature vector
    N  rows: B times the positions of a dense prediction, or the samples of a data set
    T  temperature (a number)                A  auxiliary peers (a group without its leader)

A name says what a tensor holds and its shape, and is never bound to another quantity: `logits_PBC`, `logp_PNC`
(log-probabilities), `prob_NC`, `labels_B`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codistill.errors import UserError

__all__ = ["GroupShape", "PeerOutputs", "Progress", "StepOutput"]


@dataclass(frozen=True)
class PeerOutputs:
    """All that a method may see of a group: the output boundary.

    Attributes:
        logits_PBC: [P, B, C]; dense predictions and sequences add positions before the classes, [P, B, ..., C].
        features: for each peer the input of its last linear layer, [B, D_p] (or [B, ..., D_p]); may be empty for
            methods that do not read features.
        trunk_features: the pooled output [B, D] of the trunk that the peers share, or None where they share none.
        teacher_logits_KBC: [K, B, ..., C] of K frozen teachers that see the same images, or None.

    Raises:
        UserError: logits are not floating point or have fewer than three axes; as many features as peers are not
            given; a feature's batch differs from the logits', or the teachers' shape does.
    """

    logits_PBC: Tensor
    features: tuple[Tensor, ...] = ()
    trunk_features: Tensor | None = None
    teacher_logits_KBC: Tensor | None = None

    def __post_init__(self) -> None:
        logits = self.logits_PBC
        if logits.ndim < 3:
            raise UserError(f"logits have shape {list(logits.shape)}: give [P, B, C], one row of peers first.")
        if not logits.is_floating_point():
            raise UserError(f"logits have dtype {logits.dtype}: give floating-point scores before the softmax.")
        if self.features and len(self.features) != logits.shape[0]:
            raise UserError(
                f"{len(self.features)} features for {logits.shape[0]} peers: give one feature tensor a peer, or none."
            )
        teachers = self.teacher_logits_KBC
        if teachers is not None and teachers.shape[1:] != logits.shape[1:]:
            raise UserError(
                f"teacher logits have shape {list(teachers.shape)}: give [K, {', '.join(map(str, logits.shape[1:]))}], "
                "as the students' logits."
            )
        named = [(f"features of peer {p}", h) for p, h in enumerate(self.features)]
        if self.trunk_features is not None:
            named.append(("trunk features", self.trunk_features))
        for name, tensor in named:
            if tensor.ndim < 2 or tensor.shape[0] != logits.shape[1]:
                raise UserError(
                    f"{name} have shape {list(tensor.shape)}: give [B, D] with B = {logits.shape[1]}, as the logits."
                )

    @property
    def peers(self) -> int:
        """Number of peers P."""
        return self.logits_PBC.shape[0]

    def tensors(self) -> list[Tensor]:
        """What the students' gradients flow through, in a fixed order: logits, features, trunk features."""
        trunk = [] if self.trunk_features is None else [self.trunk_features]
        return [self.logits_PBC, *self.features, *trunk]

    def at_boundary(self) -> PeerOutputs:
        """Return the same values in fp32 as leaves that collect gradients, cut off from the networks' graph."""

        def leaf(tensor: Tensor) -> Tensor:
            wide = tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()
            return wide.requires_grad_()

        trunk = None if self.trunk_features is None else leaf(self.trunk_features)
        features = tuple(leaf(h) for h in self.features)
        return PeerOutputs(leaf(self.logits_PBC), features, trunk, self.teacher_logits_KBC)


@dataclass(frozen=True)
class StepOutput:
    """What a method makes of one batch.

    Attributes:
        loss: scalar, to be differentiated; the sum over the students of `loss_by_peer`, and in ONE the ensemble's
            cross-entropy, which belongs to no single student.
        loss_by_peer: [P], each student's cross-entropy plus its weighted soft terms (batch means).
        parts: the unweighted terms, summed over the students, detached scalars: "ce" and "kd", or "dis1", "dis2", ...
        diagnostics: small detached tensors worth plotting, such as the mean attention matrix; may be empty.
    """

    loss: Tensor
    loss_by_peer: Tensor
    parts: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Position in a run, for ramp-ups: `epoch` epochs of `epochs` are done (0.5: half of the first one).

    Raises:
        UserError: `epochs` is not positive or `epoch` is negative.
    """

    epoch: float
    epochs: float

    def __post_init__(self) -> None:
        if not self.epochs > 0 or not self.epoch >= 0:
            raise UserError(f"progress {self.epoch} of {self.epochs} epochs: give epoch >= 0 and epochs > 0.")

    @property
    def fraction(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(self.epoch / self.epochs, 1.0)


@dataclass(frozen=True)
class GroupShape:
    """The sizes of a group that a method needs to build its own parameters.

    Attributes:
        peers: number of students P.
        num_classes: number of classes C.
        feature_widths: D_p for every peer.
        trunk_width: D of the shared trunk's pooled features, or None where the peers share nothing.
        shares_trunk: whether peers share layers (a branched group or a tree).
        teachers: number of frozen teachers K beside the students.
    """

    peers: int
    num_classes: int
    feature_widths: tuple[int, ...]
    trunk_width: int | None = None
    shares_trunk: bool = False
    teachers: int = 0
