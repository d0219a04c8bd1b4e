"""JSON files of a run directory, written all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codistill.errors import UserError

__all__ = ["read_json", "write_json"]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`; a reader sees the old file or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path, version: int = 1) -> dict[str, Any]:
    """Read a file that `write_json` wrote; UserError if it is missing, damaged or of a newer version."""
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}: give a folder that 'codistill train' wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or train the run again.") from error
    if content.get("version") != version:
        raise UserError(f"{path} has version {content.get('version')}, this codistill reads {version}: upgrade it.")
    return content
