"""What a run directory holds (docs/run-directory.md): file names, records, and reading and writing them.

    append_epoch(run_dir, Epoch(epoch=1, lr=0.1, ...))
    write_json(run_dir / SUMMARY, summary.to_json())
    run = read_run(run_dir)

This is the one schema of format 1, for what trains and for what reads. Nothing here imports torch.
"""

from __future__ import annotations

from codistill.rundir.durable import (
    append_line,
    leftovers,
    make_folder,
    publish_folder,
    remove,
    sync_folder,
    write_bytes,
    write_into,
    write_whole,
)
from codistill.rundir.epoch import Epoch, TrainingMeans
from codistill.rundir.evaluation import FIGURES, Bins, Diversity, Evaluation, Score
from codistill.rundir.files import parse_record, read_json, read_record, sealed, write_json
from codistill.rundir.input import DataRecord, DuplicatesRecord, ImagesRecord, InputRecord
from codistill.rundir.lock import RunInUseError, lock_run
from codistill.rundir.manifest import Checksum, Manifest, checksum
from codistill.rundir.metrics import append_epoch, keep_epochs, last_epoch, read_epochs
from codistill.rundir.mistakes import Mistake, Mistakes
from codistill.rundir.moves import Move, Moves, read_moves, write_moves
from codistill.rundir.names import (
    CHECKPOINTS,
    CONFIG,
    EXTRA,
    FORMAT,
    INPUT,
    LOCK,
    LOG,
    MANIFEST,
    METRICS,
    MISTAKES,
    MOVES,
    OWN_DATA,
    OWN_NETWORK,
    REPLACED,
    REPORT,
    RUN_FILES,
    SELECTED,
    STATE,
    SUMMARY,
    WEIGHTS,
    step_folder,
)
from codistill.rundir.preparation import Preparation
from codistill.rundir.record import Record, RecordError
from codistill.rundir.run import Run, file_sums, is_complete, is_run, read_run
from codistill.rundir.student import ENTRY, STUDENT, CheckRecord, FileRecord, StudentRecord
from codistill.rundir.summary import (
    Concern,
    ExecutorUsed,
    ImageCounts,
    Leader,
    Machine,
    MeshRecord,
    MultiplyAccumulates,
    Outcome,
    Parameters,
    Seconds,
    Summary,
    TrialRecord,
)
from codistill.rundir.yaml_text import YamlError, parse_yaml, read_yaml

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "ENTRY",
    "EXTRA",
    "FIGURES",
    "FORMAT",
    "INPUT",
    "LOCK",
    "LOG",
    "MANIFEST",
    "METRICS",
    "MISTAKES",
    "MOVES",
    "OWN_DATA",
    "OWN_NETWORK",
    "REPLACED",
    "REPORT",
    "RUN_FILES",
    "SELECTED",
    "STATE",
    "STUDENT",
    "SUMMARY",
    "WEIGHTS",
    "Bins",
    "CheckRecord",
    "Checksum",
    "Concern",
    "DataRecord",
    "Diversity",
    "DuplicatesRecord",
    "Epoch",
    "Evaluation",
    "ExecutorUsed",
    "FileRecord",
    "ImageCounts",
    "ImagesRecord",
    "InputRecord",
    "Leader",
    "Machine",
    "Manifest",
    "MeshRecord",
    "Mistake",
    "Mistakes",
    "Move",
    "Moves",
    "MultiplyAccumulates",
    "Outcome",
    "Parameters",
    "Preparation",
    "Record",
    "RecordError",
    "Run",
    "RunInUseError",
    "Score",
    "Seconds",
    "StudentRecord",
    "Summary",
    "TrainingMeans",
    "TrialRecord",
    "YamlError",
    "append_epoch",
    "append_line",
    "checksum",
    "file_sums",
    "is_complete",
    "is_run",
    "keep_epochs",
    "last_epoch",
    "leftovers",
    "lock_run",
    "make_folder",
    "parse_record",
    "parse_yaml",
    "publish_folder",
    "read_epochs",
    "read_json",
    "read_moves",
    "read_record",
    "read_run",
    "read_yaml",
    "remove",
    "sealed",
    "step_folder",
    "sync_folder",
    "write_bytes",
    "write_into",
    "write_json",
    "write_moves",
    "write_whole",
]
