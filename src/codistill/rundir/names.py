"""Names of the files in a run directory, and the version of their format (docs/run-directory.md)."""

from __future__ import annotations

__all__ = [
    "CHECKPOINTS", "CONFIG", "FORMAT", "INPUT", "LOG", "METRICS", "MISTAKES", "OWN_DATA", "OWN_NETWORK", "REPORT",
    "RUN_FILES", "SELECTED", "STATE", "SUMMARY", "WEIGHTS", "epoch_folder",
]  # fmt: skip

FORMAT = 1
"""The format version that every file names. A reader refuses a newer one."""

CONFIG, INPUT, METRICS, SUMMARY = "config.yaml", "input.json", "metrics.jsonl", "summary.json"
REPORT, LOG, MISTAKES = "report.html", "log.txt", "mistakes.json"
CHECKPOINTS, SELECTED = "checkpoints", "selected"
WEIGHTS, STATE = "weights.safetensors", "state.pt"

RUN_FILES = (CONFIG, INPUT, METRICS, MISTAKES, SUMMARY, REPORT, CHECKPOINTS)
"""Everything that a run itself writes into its directory; LOG is written by the runner of studies."""

OWN_DATA = "own"
"""The name of the data of a run that got its data from Python."""

OWN_NETWORK = "own"
"""The name of a network that a run got from Python."""


def epoch_folder(epoch: int) -> str:
    """Return the name of an epoch's folder below `checkpoints`, such as "epoch_0012"."""
    return f"epoch_{epoch:04d}"
