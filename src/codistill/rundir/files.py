"""JSON files that name their format version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from codistill.errors import UserError
from codistill.printable import json_text
from codistill.rundir.durable import write_whole
from codistill.rundir.names import FORMAT
from codistill.rundir.record import Record, RecordError

__all__ = ["check_version", "damaged", "parse", "parse_record", "read_json", "read_record", "sealed", "write_json"]

R = TypeVar("R", bound=Record)
SEAL = "sha256"


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, which names its version, as an indented JSON file."""
    write_whole(path, json_text(record) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that `write_json` wrote; UserError if it is missing, damaged or of a newer format."""
    return parse(str(path), path, _content(path))


def read_record(path: Path, kind: type[R]) -> R:
    """Read a file that holds one record of this kind; UserError if it is missing, damaged or of a newer format."""
    return parse_record(str(path), path, _content(path), kind)


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with an entry `sha256` of all its other entries, by which a reader knows if it has changed."""
    return {**record, SEAL: _digest(record)}


def _digest(record: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in record.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def parse_record(place: str, path: Path, text: bytes, kind: type[R]) -> R:
    """Return the record in `text`, found at `place` in the file at `path`; UserError as in `read_record`."""
    record = parse(place, path, text)
    if kind.SEALED and SEAL in record and record[SEAL] != _digest(record):
        raise damaged(place, "its SHA-256 differs")
    try:
        return kind.from_json(record)
    except RecordError as fault:
        raise damaged(place, str(fault)) from fault


def parse(place: str, path: Path, text: bytes) -> dict[str, Any]:
    """Return the JSON record in `text`; UserError if it is none, or is of a newer format."""
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise damaged(place, "it is nested too deeply") from error
    except ValueError as error:
        raise damaged(place, str(error)) from error
    if not isinstance(record, dict):
        raise damaged(place, "it holds no record")
    if "version" not in record:
        raise damaged(place, "version is missing")
    check_version(path, record["version"])
    return record


def check_version(path: Path, version: Any) -> None:
    """Raise UserError for a format version that this codistill cannot read."""
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise UserError(
            f"{path} has format version {version}, and this codistill reads versions up to {FORMAT}: "
            "install a newer codistill."
        )


def damaged(place: str, why: str) -> UserError:
    """Return the error for a file, or a line of one, that cannot be read."""
    return UserError(
        f"{place} is damaged ({why}): it must hold complete records of format {FORMAT} (docs/run-directory.md); "
        "restore the file, train the run again, or leave the run out."
    )


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}: give a folder that 'codistill train' wrote.")
    return path.read_bytes()
