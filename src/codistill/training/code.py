"""The user's own files that a run executes, by their content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

from codistill.config import Config, code_names

__all__ = ["code_of", "warn_of_changed_code"]


def code_of(config: Config) -> dict[str, str]:
    """Return path -> SHA-256 of each file that the run names as path/to/file.py:Name."""
    paths = dict.fromkeys(Path(name.rpartition(":")[0]) for name in code_names(config) if ".py:" in name)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def warn_of_changed_code(config: Config, before: Mapping[str, str]) -> list[str]:
    """Warn of files that are not what they were when the run was last saved, and return the warnings."""
    now = code_of(config)
    texts = [
        f"{path} has changed since this run was last saved: its numbers are no longer those of one program"
        for path in before
        if path in now and now[path] != before[path]
    ]
    for text in texts:
        warnings.warn(text, stacklevel=3)
    return texts
