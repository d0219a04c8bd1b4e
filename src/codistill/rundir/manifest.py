"""manifest.json of a checkpoint: what its files must be, and what they were made with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codistill.rundir.names import FORMAT, MANIFEST
from codistill.rundir.record import Record

__all__ = ["Checksum", "Manifest", "checksum"]


@dataclass(frozen=True, kw_only=True)
class Checksum(Record):
    """One file: its size and the SHA-256 of its content."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest(Record):
    """manifest.json.

    Attributes:
        version: of the format.
        epoch: finished epochs.
        step: finished steps of the epoch that is in progress.
        files: name -> what it must hold.
        versions: of codistill, torch and Python, which wrote it.
        code: path -> SHA-256 of every file of the user's own code that the run executes.
        data: SHA-256 of all labels in order, as in input.json.
        sha256: of everything above; see `sealed`.
    """

    version: int = FORMAT
    epoch: int
    step: int = 0
    files: Mapping[str, Checksum]
    versions: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    sha256: str = ""

    def sealed(self) -> Manifest:
        """The same with its own checksum."""
        return dataclasses.replace(self, sha256=self._digest())

    def _digest(self) -> str:
        rest = {name: value for name, value in self.to_json().items() if name != "sha256"}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    def fault(self, folder: Path, contents: Mapping[str, bytes]) -> str | None:
        """Why the files of a checkpoint are not those that were written; None where they are."""
        if self.sha256 != self._digest():
            return f"{folder / MANIFEST} is damaged (its SHA-256 differs)"
        for name, record in self.files.items():
            content = contents.get(name)
            if content is None:
                return f"{folder / name} is missing"
            if len(content) != record.bytes:
                return f"{folder / name} is damaged ({len(content):,} bytes, not {record.bytes:,})"
            if hashlib.sha256(content).hexdigest() != record.sha256:
                return f"{folder / name} is damaged (its SHA-256 differs)"
        return None


def checksum(content: bytes) -> Checksum:
    """The record of a file with this content."""
    return Checksum(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
