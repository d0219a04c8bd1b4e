"""Downloads and unpacking that finish completely or leave nothing, even if several runs start them at once.

torchvision writes straight into the destination: an interrupted download leaves part of it there, and a second run may
read files that the first is still writing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from codistill.errors import UserError, one_line

__all__ = ["fetch_into"]


def fetch_into(folder: Path, fetch: Callable[[Path], object], keep: str, failed: str, remedy: str) -> None:
    """Let `fetch` fill a temporary folder inside the destination, then move its files into place.

    Args:
        folder: destination; created if it does not exist.
        fetch: downloads or unpacks into the folder that is passed to it.
        keep: which subfolder of that folder to move; it must contain files only.
        failed: how the error message begins ("CIFAR-10 could not be downloaded").
        remedy: what the user can do about it.

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
        # The folder exists already: it was left incomplete, or another run was faster.
        for file in made.iterdir():
            file.replace(target / file.name)
