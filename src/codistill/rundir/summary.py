"""summary.json: the results of a complete run, and all that is needed to judge and repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from codistill.rundir.evaluation import Evaluation
from codistill.rundir.moves import Move
from codistill.rundir.names import FORMAT
from codistill.rundir.record import Record, RecordError

__all__ = [
    "KIND", "Concern", "ExecutorUsed", "ImageCounts", "Leader", "Machine", "MeshRecord",
    "MultiplyAccumulates", "Outcome", "Parameters", "Seconds", "Summary", "TrialRecord",
]  # fmt: skip

KIND = "codistill-run"


@dataclass(frozen=True, kw_only=True)
class Leader(Record):
    """The student that is handed back; `rule`: "group leader", "lowest validation error" or "only network"."""

    peer: int
    rule: str


@dataclass(frozen=True, kw_only=True)
class Outcome(Record):
    """The results with the weights of one epoch."""

    epoch: int
    validation: Evaluation
    test: Evaluation


@dataclass(frozen=True, kw_only=True)
class Concern(Record):
    """What looked wrong, and the epoch in which it was first seen."""

    epoch: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How many were trained (all students and the method), and how many the student that is handed back has."""

    training: int
    deployed: int


@dataclass(frozen=True, kw_only=True)
class MultiplyAccumulates(Record):
    """Of one image in a forward pass: of all students together, and of the one that is handed back."""

    training: int
    deployed: int


@dataclass(frozen=True, kw_only=True)
class Seconds(Record):
    """Time of all epochs, and that of the process that finished the run."""

    training: float
    total: float


@dataclass(frozen=True, kw_only=True)
class TrialRecord(Record):
    """The choice of an executor.

    Attributes:
        chosen: its name.
        seconds: the fastest step of each executor that was tried.
        refused: why each of the others cannot run the group, a sentence each.
        held_bytes: what the activations of all students take at once.
        allowed_bytes: what they may take; None where no limit is known.
        cuda_graphs: whether the step is recorded as a CUDA graph.
    """

    chosen: str
    seconds: Mapping[str, float]
    refused: Mapping[str, str]
    held_bytes: int
    allowed_bytes: int | None
    cuda_graphs: bool = False


@dataclass(frozen=True, kw_only=True)
class MeshRecord(Record):
    """The processes that finished the run together, and what they sent in a step, from when they took it up.

    Attributes:
        data: how many shared each batch.
        peer: how many shared the students.
        placed: the students of each of these.
        bytes_per_step: what each process sent in a step, without evaluation and saving: "outputs", "gradients",
            "norms", "weights" and "signals" (ring algorithms: docs/distributed.md).
        waiting: of each process, the share of training in which it waited for the outputs of others.
    """

    data: int
    peer: int
    placed: tuple[tuple[int, ...], ...]
    bytes_per_step: tuple[Mapping[str, int], ...]
    waiting: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ExecutorUsed(Record):
    """What ran the students; `trial` is None unless the executor asked for was `auto`, `mesh` with one process."""

    name: str
    trial: TrialRecord | None = None
    mesh: MeshRecord | None = None


@dataclass(frozen=True, kw_only=True)
class ImageCounts(Record):
    """Images of each part of the data."""

    train: int
    validation: int
    test: int
    held_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Machine(Record):
    """What the run ran on."""

    device: str
    processor: str
    threads: int


@dataclass(frozen=True, kw_only=True)
class Summary(Record):
    """summary.json; its entries are those of docs/run-directory.md, in the same order.

    `headline` says whose score of the last epoch stands for the run in tables: "leader", or "mean" of the students;
    `figure`, by which figure of it epoch and leader were chosen. `stopped_early`: the run ended before its `epochs`;
    `stop_reason` says why. `machine` is that of the last epoch; `moves` says where it was before; `files` holds the
    SHA-256 of the run's other files at its end.
    """

    SEALED: ClassVar[bool] = True

    version: int = FORMAT
    kind: str = KIND
    label: str
    method: str
    models: tuple[str, ...]
    peers: int
    group: str
    data: str
    seed: int
    icl: bool
    classes: tuple[str, ...]
    leader: Leader
    headline: str
    figure: str = "error"
    epochs: int
    stopped_early: bool = False
    stop_reason: str | None = None
    last: Outcome
    selected: Outcome
    concerns: tuple[Concern, ...] = ()
    parameters: Parameters
    multiply_accumulates: MultiplyAccumulates | None = None
    seconds: Seconds
    peak_memory: int | None = None
    executor: ExecutorUsed | None = None
    images: ImageCounts
    seeds: Mapping[str, int]
    versions: Mapping[str, str]
    machine: Machine
    moves: tuple[Move, ...] = ()
    config_sha256: str
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise RecordError(f"is {self.kind!r}, not {KIND!r}", "kind")
        if self.headline not in ("leader", "mean"):
            raise RecordError(f"is {self.headline!r}, neither 'leader' nor 'mean'", "headline")
