"""moves.json: when a run went on on another device or with another precision, and the settings that changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codistill.rundir.files import read_record, write_json
from codistill.rundir.names import FORMAT, MOVES
from codistill.rundir.record import Record

__all__ = ["Move", "Moves", "read_moves", "write_moves"]


@dataclass(frozen=True, kw_only=True)
class Move(Record):
    """A run that went on elsewhere.

    Attributes:
        epoch: finished epochs at that moment.
        before: the settings that changed, as they were, by name.
        after: the same settings from then on.
    """

    epoch: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Moves(Record):
    """moves.json; the earliest one first."""

    version: int = FORMAT
    moves: tuple[Move, ...]


def read_moves(run_dir: Path) -> tuple[Move, ...]:
    """Return the moves of a run, none for most; UserError if the file is damaged."""
    path = run_dir / MOVES
    return read_record(path, Moves).moves if path.is_file() else ()


def write_moves(run_dir: Path, moves: tuple[Move, ...]) -> None:
    """Write moves.json."""
    write_json(run_dir / MOVES, Moves(moves=moves).to_json())
