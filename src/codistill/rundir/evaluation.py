"""The evaluation record: what one reading of the validation or test images gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codistill.rundir.record import Record, RecordError

__all__ = ["FIGURES", "Bins", "Diversity", "Evaluation", "Score"]

FIGURES = {"error": "error", "balanced_error": "balanced error", "macro_f1": "macro F1", "auroc": "AUROC"}
"""Headline figures, and what to call them."""


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """Errors and expected calibration error in percent, negative log-likelihood in nats.

    `top5_error` is None for five classes or fewer. `balanced_error` is the mean of the classes' errors, `macro_f1` the
    mean of their F1, and `auroc` the mean of their areas under the ROC curve, each class against all others, in
    percent; `auroc` is None unless it is the run's headline.
    """

    top1_error: float
    top5_error: float | None
    nll: float
    ece: float
    balanced_error: float | None = None
    macro_f1: float | None = None
    auroc: float | None = None

    def value(self, figure: str) -> float | None:
        """Return a headline figure, one of `FIGURES`, in percent; None if it is not recorded."""
        return getattr(self, "top1_error" if figure == "error" else figure)

    def shortfall(self, figure: str) -> float:
        """Return a headline figure, one of `FIGURES`, as what is better the lower it is; infinite if not recorded."""
        value = self.value(figure)
        if value is None:
            return float("inf")
        return 100 - value if figure in ("macro_f1", "auroc") else value


@dataclass(frozen=True, kw_only=True)
class Bins(Record):
    """A reliability diagram: per bin the images, their mean confidence and accuracy (0 to 1; None where empty)."""

    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not len(self.count) == len(self.confidence) == len(self.accuracy):
            raise RecordError("has lists of different lengths")


@dataclass(frozen=True, kw_only=True)
class Diversity(Record):
    """How far the students' predictions lie apart.

    Attributes:
        distance: mean over pairs and images of the Euclidean distance of softmax outputs.
        disagreement: percent of (pair, image) with different predicted classes.
    """

    distance: float
    disagreement: float


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """One reading of the validation or test images.

    Attributes:
        images: how many there were.
        peers: one score per student, in the order of the group.
        mean: mean of the students' scores.
        leader_peer: index of the student that is handed back.
        leader: its score.
        ensemble: mean of the students' softmax outputs.
        ensemble_logits: softmax of the mean of the students' logits.
        ensemble_own: the ensemble that the method itself forms; None if it forms none.
        diversity: None for a single network.
        reliability: bins of "leader" and "ensemble".
        confusion: images by true class (row) and class predicted by the leader (column); None where there are many
            classes, and in the lines of metrics.jsonl.
    """

    images: int
    peers: tuple[Score, ...]
    mean: Score
    leader_peer: int
    leader: Score
    ensemble: Score
    ensemble_logits: Score
    ensemble_own: Score | None = None
    diversity: Diversity | None
    reliability: Mapping[str, Bins]
    confusion: tuple[tuple[int, ...], ...] | None = None

    def score(self, which: str) -> Score:
        """Return the score of the `leader`, the `mean` of the students, or the `ensemble`."""
        return {"leader": self.leader, "mean": self.mean, "ensemble": self.ensemble}[which]
