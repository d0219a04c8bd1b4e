"""What each setting changes, by its dotted name. A setting in none of these sets changes the experiment."""

from __future__ import annotations

__all__ = ["IDENTIFIES_RUN", "NOTHING", "ROUNDING"]

IDENTIFIES_RUN = frozenset({"seed", "out", "label"})
"""Settings that say which run of an experiment it is."""

NOTHING = frozenset({"data_dir", "download", "workers"})
"""Settings that change no number. Where the images lie is one of them: what they are is in input.json."""

ROUNDING = frozenset({"channels_last", "compile", "deterministic", "device", "executor", "memory_limit", "threads"})
"""Settings that change numbers by rounding only (and what random layers draw)."""
