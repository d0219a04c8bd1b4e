"""What depends on the kind of output that the networks learn: classes here, one per image.

The loop, the session and the summary ask this class for the form of labels and logits, the meters and the figure that
counts; another kind of output needs another such class, and no other loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codistill import data
from codistill.data import AugmentPolicy
from codistill.methods import Method
from codistill.rundir import Evaluation
from codistill.training.metrics import EpochMeter, EvaluationMeter
from codistill.types import GroupShape, PeerOutputs

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification:
    """One class per image: labels are indices [B], or probabilities [B, C] if images are mixed; logits are [P, B, C].

    Attributes:
        shape: of the group, which says P and C.
        figure: the headline figure: "error", "balanced_error", "macro_f1" or "auroc".
    """

    shape: GroupShape
    figure: str = "error"

    def random_labels(self, images: int, generator: torch.Generator) -> Tensor:
        """Return labels of random images, for a trial step."""
        return torch.randint(self.shape.num_classes, (images,), generator=generator)

    def mix(
        self, views: tuple[Tensor, ...], labels_B: Tensor, policy: AugmentPolicy, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Mix images and labels as the policy says.

        Returns:
            The views, the labels to learn from, and the class indices [B] to count errors with: those of the larger
            shares if images are mixed.
        """
        if policy.mix is None:
            return views, labels_B, labels_B
        mixed, labels_BC = data.mix_views(
            views, labels_B, self.shape.num_classes, policy.mix, policy.mix_alpha, generator
        )
        return mixed, labels_BC, labels_BC.argmax(-1)

    def training_meter(self, device: torch.device) -> EpochMeter:
        """Return a new meter of an epoch's training figures."""
        return EpochMeter(self.shape.peers, device)

    def evaluation_meter(self, device: torch.device) -> EvaluationMeter:
        """Return a new meter of validation or test scores."""
        return EvaluationMeter(self.shape.peers, self.shape.num_classes, device, self.figure)

    def score(self, meter: EvaluationMeter, outputs: PeerOutputs, labels_B: Tensor, method: Method) -> None:
        """Add one batch to an evaluation."""
        meter.update(outputs.logits_PBC, labels_B, method.own_ensemble(outputs))

    def probabilities(self, outputs: PeerOutputs) -> Tensor:
        """Return the students' predictions [P, B, C]."""
        return outputs.logits_PBC.softmax(-1)

    def headline(self, leader: int | None) -> str:
        """Return whose score stands for the run: the "leader", also of a single network, or the "mean" of all."""
        return "leader" if leader is not None or self.shape.peers == 1 else "mean"

    def rank(self, validation: Evaluation, headline: str) -> tuple[float, float]:
        """Return what the best epoch has the lowest of: the headline's figure, and its NLL if figures are equal."""
        score = validation.score(headline)
        return score.shortfall(self.figure), score.nll

    def chance(self) -> float:
        """Return the error of guessing, in percent."""
        return 100 * (1 - 1 / self.shape.num_classes)

    def likelihood(self, evaluation: Evaluation) -> float:
        """Return the sum of the students' NLL, which is not finite once one of them has diverged."""
        return sum(score.nll for score in evaluation.peers)
