"""Files that arrive whole or not at all, also when several runs fetch them at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from codistill.errors import UserError, one_line

__all__ = ["fetch_into"]


def fetch_into(folder: Path, fetch: Callable[[Path], object], keep: str, failed: str, remedy: str) -> None:
    """Let `fetch` fill a temporary folder beside its destination, then move the files in.

    Args:
        folder: destination, made where it is missing.
        fetch: downloads or unpacks into the folder that it is given.
        keep: the subfolder of that folder to move; it holds files only.
        failed: what to say of a failure ("CIFAR-10 could not be downloaded").
        remedy: what the user can do then.

    Raises:
        UserError: the files cannot be fetched or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".incomplete-") as made:
            fetch(Path(made))
            _move(Path(made) / keep, folder / keep)
    except (OSError, RuntimeError, HTTPException, TarError) as error:
        reason = one_line(error)
        raise UserError(f"{failed} ({reason}): {remedy}.") from error


def _move(made: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError:
        # It is there already: left incomplete, or made by a run that was faster.
        for file in made.iterdir():
            file.replace(target / file.name)
