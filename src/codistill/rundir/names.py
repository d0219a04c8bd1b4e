"""Names of the files in a run directory, and the version of their format (docs/run-directory.md)."""

from __future__ import annotations

__all__ = [
    "CHECKPOINTS", "CONFIG", "EXTRA", "FORMAT", "INPUT", "LOCK", "LOG", "MANIFEST", "METRICS", "MISTAKES", "MOVES",
    "OWN_DATA", "OWN_NETWORK", "REPLACED", "REPORT", "RUN_FILES", "SELECTED", "STATE", "SUMMARY", "WEIGHTS",
    "step_folder",
]  # fmt: skip

FORMAT = 1
"""The format version that every file names. A reader refuses a newer one."""

CONFIG, INPUT, METRICS, SUMMARY = "config.yaml", "input.json", "metrics.jsonl", "summary.json"
REPORT, LOG, MISTAKES, MOVES = "report.html", "log.txt", "mistakes.json", "moves.json"
CHECKPOINTS, SELECTED, EXTRA = "checkpoints", "selected", "extra"
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "manifest.json"
LOCK, REPLACED = ".lock", ".replaced"

RUN_FILES = (CONFIG, INPUT, METRICS, MISTAKES, MOVES, SUMMARY, REPORT, CHECKPOINTS, EXTRA)
"""Everything that a run itself writes into its directory; LOG is written by the runner of studies."""

OWN_DATA = "own"
"""The name of the data of a run that got its data from Python."""

OWN_NETWORK = "own"
"""The name of a network that a run got from Python."""


def step_folder(epoch: int, step: int = 0) -> str:
    """Return the name of a folder below `checkpoints`: "epoch_0012", or "epoch_0012_step_000340" in the epoch after."""
    return f"epoch_{epoch:04d}" + (f"_step_{step:06d}" if step else "")
