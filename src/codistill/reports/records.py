"""The records of a run directory (docs/run-directory.md, format 1) as typed values.

Each `from_json` raises KeyError, TypeError or ValueError for a record that is not of the format; `run.py` turns these
into one sentence that names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FORMAT", "Bins", "Diversity", "Epoch", "Evaluation", "Outcome", "Score", "Summary"]

FORMAT = 1
Record = Mapping[str, Any]


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


@dataclass(frozen=True)
class Score:
    """Errors and calibration error in percent, negative log-likelihood in nats."""

    top1_error: float
    top5_error: float | None
    nll: float
    ece: float

    @classmethod
    def from_json(cls, record: Record) -> Score:
        """Read one SCORE."""
        return cls(
            float(record["top1_error"]), _optional(record["top5_error"]), float(record["nll"]), float(record["ece"])
        )


@dataclass(frozen=True)
class Bins:
    """A reliability diagram: images, mean confidence and accuracy (0 to 1, None where empty) of each bin."""

    count: tuple[float, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    @classmethod
    def from_json(cls, record: Record) -> Bins:
        """Read one BINS."""
        bins = cls(
            tuple(float(n) for n in record["count"]),
            tuple(_optional(x) for x in record["confidence"]),
            tuple(_optional(x) for x in record["accuracy"]),
        )
        if not len(bins.count) == len(bins.confidence) == len(bins.accuracy):
            raise ValueError("reliability bins of different lengths")
        return bins


@dataclass(frozen=True)
class Diversity:
    """How far the peers' predictions lie apart: mean Euclidean distance, and disagreement in percent."""

    distance: float
    disagreement: float


@dataclass(frozen=True)
class Evaluation:
    """One reading of the validation or test images."""

    images: int
    peers: tuple[Score, ...]
    mean: Score
    leader: Score
    ensemble: Score
    ensemble_logits: Score
    ensemble_own: Score | None
    diversity: Diversity | None
    reliability: Mapping[str, Bins]

    @classmethod
    def from_json(cls, record: Record) -> Evaluation:
        """Read one EVALUATION."""
        spread = record["diversity"]
        return cls(
            images=int(record["images"]),
            peers=tuple(Score.from_json(score) for score in record["peers"]),
            mean=Score.from_json(record["mean"]),
            leader=Score.from_json(record["leader"]),
            ensemble=Score.from_json(record["ensemble"]),
            ensemble_logits=Score.from_json(record["ensemble_logits"]),
            # Runs of before this entry have none.
            ensemble_own=Score.from_json(own) if (own := record.get("ensemble_own")) else None,
            diversity=spread and Diversity(float(spread["distance"]), float(spread["disagreement"])),
            reliability={name: Bins.from_json(bins) for name, bins in record["reliability"].items()},
        )

    def score(self, which: str) -> Score:
        """Return the score of the `leader`, the `mean` of the students, or the `ensemble`."""
        return {"leader": self.leader, "mean": self.mean, "ensemble": self.ensemble}[which]


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl; `attention` ([A, A]) and `shares` (one per student) are for methods that have them."""

    epoch: int
    lr: float
    seconds: float
    loss: float
    loss_by_peer: tuple[float, ...]
    parts: Mapping[str, float]
    validation: Evaluation
    attention: tuple[tuple[float, ...], ...] | None
    shares: tuple[float, ...] | None
    concerns: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, record: Record) -> Epoch:
        """Read one line."""
        train, diagnostics = record["train"], record.get("diagnostics", {})
        attention = diagnostics.get("attention")
        # KDCL-General's weights, or ONE's gate: how much each student counts in the target that all learn from.
        shares = diagnostics.get("weights") or diagnostics.get("gate")
        if not train["loss_by_peer"]:
            raise ValueError("loss_by_peer is empty")
        if attention and any(len(row) != len(attention) for row in attention):
            raise ValueError("attention is not square")
        return cls(
            epoch=int(record["epoch"]),
            lr=float(record["lr"]),
            seconds=float(record["seconds"]),
            loss=float(train["loss"]),
            loss_by_peer=tuple(float(loss) for loss in train["loss_by_peer"]),
            parts={str(name): float(value) for name, value in train["parts"].items()},
            validation=Evaluation.from_json(record["validation"]),
            attention=attention and tuple(tuple(float(weight) for weight in row) for row in attention),
            shares=shares and tuple(float(share) for share in shares),
            concerns=tuple(str(text) for text in record.get("concerns", ())),
        )

    @property
    def loss_per_student(self) -> float:
        """Training loss of the average student, which compares between groups of different sizes."""
        return sum(self.loss_by_peer) / len(self.loss_by_peer)


@dataclass(frozen=True)
class Outcome:
    """The results with the weights of one epoch."""

    epoch: int
    validation: Evaluation
    test: Evaluation

    @classmethod
    def from_json(cls, record: Record) -> Outcome:
        """Read "last" or "selected"."""
        return cls(
            int(record["epoch"]), Evaluation.from_json(record["validation"]), Evaluation.from_json(record["test"])
        )


@dataclass(frozen=True)
class Summary:
    """summary.json: the results of a complete run."""

    label: str
    method: str
    models: tuple[str, ...]
    peers: int
    group: str
    data: str
    seed: int
    leader_peer: int
    leader_rule: str
    headline: str
    epochs: int
    last: Outcome
    selected: Outcome
    parameters: Mapping[str, int]
    seconds: Mapping[str, float]
    peak_memory: int | None
    images: Mapping[str, int]
    seeds: Mapping[str, int]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    config_sha256: str

    @classmethod
    def from_json(cls, record: Record) -> Summary:
        """Read summary.json."""
        if record["kind"] != "codistill-run":
            raise ValueError(f"kind {record['kind']!r} is not 'codistill-run'")
        if record["headline"] not in ("leader", "mean"):
            raise ValueError(f"headline {record['headline']!r} is neither 'leader' nor 'mean'")
        memory = record.get("peak_memory")
        return cls(
            label=str(record["label"]),
            method=str(record["method"]),
            models=tuple(str(model) for model in record["models"]),
            peers=int(record["peers"]),
            group=str(record["group"]),
            data=str(record["data"]),
            seed=int(record["seed"]),
            leader_peer=int(record["leader"]["peer"]),
            leader_rule=str(record["leader"]["rule"]),
            headline=str(record["headline"]),
            epochs=int(record["epochs"]),
            last=Outcome.from_json(record["last"]),
            selected=Outcome.from_json(record["selected"]),
            parameters={str(name): int(n) for name, n in record["parameters"].items()},
            seconds={str(name): float(s) for name, s in record["seconds"].items()},
            peak_memory=None if memory is None else int(memory),
            images={str(name): int(n) for name, n in record["images"].items()},
            seeds=dict(record["seeds"]),
            versions={str(name): str(version) for name, version in record["versions"].items()},
            machine=dict(record["machine"]),
            config_sha256=str(record["config_sha256"]),
        )
