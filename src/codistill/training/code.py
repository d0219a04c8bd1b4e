"""The user's own files that a run executes, by their content."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from codistill.config import Config, code_names
from codistill.trusted import digest_of, files_named

__all__ = ["code_of", "warn_of_changed_code"]


def code_of(config: Config) -> dict[str, str]:
    """Return path -> SHA-256 of each file that the run names as path/to/file.py:Name."""
    digests = {str(path): digest_of(path) for path in files_named(code_names(config))}
    return {path: digest for path, digest in digests.items() if digest is not None}


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
