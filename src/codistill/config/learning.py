"""What the students learn from each image and class, which layers learn, and when a run is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codistill.errors import UserError, check_rules
from codistill.meaning import setting

__all__ = ["LearningOptions"]


@dataclass(frozen=True)
class LearningOptions:
    """Labels, classes, layers, and the figure that counts."""

    freeze: tuple[str, ...] = setting(())
    """Parameters of each student that do not learn, by patterns of their names in the network, such as "layer1.*" or
    "bn*"; frozen batch norms keep their statistics too."""
    freeze_epochs: int | None = setting(None)
    """Freeze for this many epochs only; for the whole run if left out."""
    accumulate: int = setting(1)
    """Batches whose gradients are averaged for one step of the optimizer."""
    label_smoothing: float = setting(0.0)
    """Share of each label that is spread over all classes, in every cross-entropy with the labels."""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = setting("none")
    """How much an image counts in the loss by its class: all alike; in inverse proportion to the number of images of
    the class (balanced); or one number per class. Scaled to a mean of 1 over the training images."""
    sampler: Literal["shuffle", "balanced"] = setting("shuffle")
    """Which images an epoch shows: each once, or every class equally often (images of rare classes several times)."""
    recalibrate_bn: Literal["auto", "on", "off"] = setting("auto")
    """Estimate batch-norm statistics from training images before each evaluation and for the student that is handed
    back; auto: where a network's momentum is below the usual 0.1, and too small for the run to forget the start values
    of the statistics. What kdcl_general predicts of held-out images has them unless this is off."""
    headline: Literal["error", "balanced_error", "macro_f1", "auroc"] = setting("error")
    """Figure on the validation images that selects the best epoch and the leader, and stops the run early: top-1 error,
    the mean of the classes' errors, macro F1, or the area under the ROC curve (mean over classes, one against all)."""
    patience: int | None = setting(None)
    """Stop after this many epochs without a better headline figure on the validation images; never if left out."""

    def check_learning(self) -> None:
        """Raise UserError for a value that is out of range."""
        frozen, patience, weights = self.freeze_epochs, self.patience, self.class_weights
        check_rules(
            ("freeze_epochs", frozen, frozen is None or frozen >= 1, "1 or more"),
            ("accumulate", self.accumulate, self.accumulate >= 1, "1 or more"),
            ("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "0 or more and below 1"),
            ("patience", patience, patience is None or patience >= 1, "1 or more"),
        )
        if frozen is not None and not self.freeze:
            raise UserError(f"freeze_epochs {frozen} without freeze: name the parameters, such as --freeze 'layer1.*'.")
        if weights == self.sampler == "balanced":
            raise UserError(
                "class_weights balanced with sampler balanced: rare classes would count twice; use one of the two."
            )
        if not isinstance(weights, str) and not (weights and min(weights) >= 0 and 0 < sum(weights) < float("inf")):
            raise UserError(
                f"class_weights {list(weights)}: give a number of 0 or more per class, not all of them 0, or balanced."
            )
