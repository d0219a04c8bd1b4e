"""What a run directory holds (docs/run-directory.md): file names, records, and reading and writing them.

    append_epoch(run_dir, Epoch(epoch=1, lr=0.1, ...))
    write_json(run_dir / SUMMARY, summary.to_json())
    run = read_run(run_dir)

This is the one schema of format 1, for what trains and for what reads. Nothing here imports torch.
"""

from __future__ import annotations

from codistill.rundir.epoch import Epoch, TrainingMeans
from codistill.rundir.evaluation import FIGURES, Bins, Diversity, Evaluation, Score
from codistill.rundir.files import read_json, read_record, write_json, write_whole
from codistill.rundir.input import DataRecord, DuplicatesRecord, ImagesRecord, InputRecord
from codistill.rundir.metrics import append_epoch, keep_epochs, last_epoch, read_epochs
from codistill.rundir.mistakes import Mistake, Mistakes
from codistill.rundir.names import (
    CHECKPOINTS,
    CONFIG,
    FORMAT,
    INPUT,
    LOG,
    METRICS,
    MISTAKES,
    OWN_DATA,
    OWN_NETWORK,
    REPORT,
    RUN_FILES,
    SELECTED,
    STATE,
    SUMMARY,
    WEIGHTS,
    epoch_folder,
)
from codistill.rundir.record import Record, RecordError
from codistill.rundir.run import Run, is_complete, is_run, read_run
from codistill.rundir.summary import (
    Concern,
    ExecutorUsed,
    ImageCounts,
    Leader,
    Machine,
    MultiplyAccumulates,
    Outcome,
    Parameters,
    Seconds,
    Summary,
    TrialRecord,
)

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "FIGURES",
    "FORMAT",
    "INPUT",
    "LOG",
    "METRICS",
    "MISTAKES",
    "OWN_DATA",
    "OWN_NETWORK",
    "REPORT",
    "RUN_FILES",
    "SELECTED",
    "STATE",
    "SUMMARY",
    "WEIGHTS",
    "Bins",
    "Concern",
    "DataRecord",
    "Diversity",
    "DuplicatesRecord",
    "Epoch",
    "Evaluation",
    "ExecutorUsed",
    "ImageCounts",
    "ImagesRecord",
    "InputRecord",
    "Leader",
    "Machine",
    "Mistake",
    "Mistakes",
    "MultiplyAccumulates",
    "Outcome",
    "Parameters",
    "Record",
    "RecordError",
    "Run",
    "Score",
    "Seconds",
    "Summary",
    "TrainingMeans",
    "TrialRecord",
    "append_epoch",
    "epoch_folder",
    "is_complete",
    "is_run",
    "keep_epochs",
    "last_epoch",
    "read_epochs",
    "read_json",
    "read_record",
    "read_run",
    "write_json",
    "write_whole",
]
