"""Files that survive a power cut: their content is on disk before their name is, and no name is ever half written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "append_line", "leftovers", "make_folder", "publish_folder", "remove", "sync_folder", "write_bytes", "write_into",
    "write_whole",
]  # fmt: skip


_PARTIAL = re.compile(r"\..+\.\d+\.partial")


def write_whole(path: Path, text: str) -> None:
    """Write `text` so that at every moment `path` has either its earlier content or all of the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_whole`; OSError with the path where the disk refuses it, and then nothing is left behind."""
    # `leftovers` knows these names.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _named(path), partial.open("wb") as file:
            file.write(content)
            _sync(file)
        with _named(path):
            partial.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_into(partial: Path, name: str, content: bytes) -> None:
    """Write a file of a folder that has no name yet, see `publish_folder`, which also puts the file's name on disk."""
    path = partial / name
    with _named(path), path.open("wb") as file:
        file.write(content)
        _sync(file)


def append_line(path: Path, line: str) -> None:
    """Append one line; what was there stays as it is, whatever happens."""
    new = not path.exists()
    with _named(path):
        with path.open("ab") as file:
            file.write(f"{line}\n".encode())
            _sync(file)
        if new:
            sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with _named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for place in reversed(missing):
            sync_folder(place.parent)


def publish_folder(partial: Path, folder: Path) -> None:
    """Give a folder whose files are on disk its name; where the name is taken, the earlier folder goes afterwards.

    A fault between the two leaves the earlier folder beside it, under the name with `.old` appended.
    """
    with _named(folder):
        sync_folder(partial)
        earlier = folder.with_name(f"{folder.name}.old")
        if folder.exists():
            remove(earlier)
            folder.rename(earlier)
        partial.rename(folder)
        sync_folder(folder.parent)
        remove(earlier)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that it holds; nothing happens where there is none."""
    with _named(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """What `write_bytes` was writing into a folder when its process was killed."""
    return [path for path in folder.glob(".*.partial") if _PARTIAL.fullmatch(path.name)]


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on disk; without effect where a system cannot do it (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file that the user knows: writing and fsync name none, renaming another."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
