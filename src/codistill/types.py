"""What peers put out, what a method asks for and gives back, and the legend of shape letters used in every name.

    P  peers (students) of a group           B  images of a batch
    C  classes                               D  width of a feature vector
    N  rows: B times the positions of a dense prediction, or the samples of a data set
    T  temperature (a number)                A  auxiliary peers (a group without its leader)
    K  frozen teachers

A name says what a tensor holds and its shape, and is never bound to another quantity: `logits_PBC`, `logp_PNC`
(log-probabilities), `prob_NC`, `labels_B`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from codistill.errors import UserError
from codistill.needs import Needs
from codistill.outputs import PeerOutputs

__all__ = ["GroupShape", "Needs", "PeerOutputs", "Progress", "StepOutput"]


@dataclass(frozen=True)
class StepOutput:
    """What a method makes of one batch.

    Attributes:
        loss: scalar, to be differentiated; the sum over the students of `loss_by_peer`, and of terms that belong to no
            single student, such as the cross-entropy of ONE's ensemble.
        loss_by_peer: [P], each student's cross-entropy plus its weighted soft terms (batch means).
        parts: the unweighted terms, summed over the students, detached scalars: "ce" and "kd", or "dis1", "dis2", ...
        diagnostics: small detached tensors worth plotting, such as the mean attention matrix; may be empty.
        update_P: [P] bool, True for the students that this step moves. The others keep parameters, momentum and weight
            decay untouched (not their running statistics, which every forward updates). None moves all. Reading it
            makes the host wait for the device once per step.
    """

    loss: Tensor
    loss_by_peer: Tensor
    parts: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)
    update_P: Tensor | None = None


@dataclass(frozen=True)
class Progress:
    """Position in a run, for ramp-ups: `epoch` epochs of `epochs` are done (0.5: half of the first one).

    `epoch` may be a 0-dim fp64 tensor on the method's device. A recorded step then reads the position of each replay;
    a Python number would stay what it was in the step that was recorded.

    Raises:
        UserError: `epochs` is not positive or `epoch` is negative (a tensor's value is not looked at).
    """

    epoch: float | Tensor
    epochs: float

    def __post_init__(self) -> None:
        if not self.epochs > 0 or not (isinstance(self.epoch, Tensor) or self.epoch >= 0):
            raise UserError(f"progress {self.epoch} of {self.epochs} epochs: give epoch >= 0 and epochs > 0.")

    @property
    def fraction(self) -> float | Tensor:
        """The share of the run that is done, 0 to 1; a tensor where `epoch` is one."""
        if isinstance(self.epoch, Tensor):
            return (self.epoch / self.epochs).clamp(max=1.0)
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
        teachers: number of frozen teachers K that learn nothing and teach the students.
        map_shapes: for every map that the method asks for, the shape [D, H, W] of each peer's map, without the batch;
            H and W are those of the images on which the group was tried.
    """

    peers: int
    num_classes: int
    feature_widths: tuple[int, ...]
    trunk_width: int | None = None
    shares_trunk: bool = False
    teachers: int = 0
    map_shapes: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
