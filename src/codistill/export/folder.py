"""The folder that an export goes to: its files are replaced one by one, each whole, and only when all are ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from codistill.errors import UserError
from codistill.rundir import CONFIG, INPUT, STUDENT, StudentRecord, read_record

__all__ = ["README", "joined", "publish", "refuse_run_folder", "staged"]

README = "README.md"


def refuse_run_folder(folder: Path) -> None:
    """Raise UserError for a run directory: the files of the export would lie among the run's."""
    # `open_student` takes these for a run directory, too.
    if (folder / CONFIG).is_file() or (folder / INPUT).is_file():
        raise UserError(
            f"out {folder} is a run directory, which stands for the students of its own run: give another --out."
        )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a new folder on the same disk as `folder`, which is removed at the end whatever happens.

    Raises:
        UserError: `folder` is a file, holds a README.md that no export wrote, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give the path of a folder.")
    if (folder / README).exists() and not (folder / STUDENT).is_file():
        raise UserError(f"{folder} holds a {README} and no export: give an empty folder with --out.")
    near = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    stage: Path | None = None
    try:
        stage = Path(mkdtemp(prefix=".export-", dir=near))
        yield stage
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): make room, or give another folder with --out."
        ) from error
    finally:
        if stage is not None:
            rmtree(stage, ignore_errors=True)


def joined(folder: Path, record: StudentRecord) -> tuple[StudentRecord, list[str]]:
    """Return the record with the files of other formats that the folder holds of the very same student.

    Returns:
        The record, and the files of another student that the folder holds, which no longer fit it.
    """
    if not (folder / STUDENT).is_file():
        return record, []
    before = read_record(folder / STUDENT, StudentRecord)
    others = {n: f for n, f in before.files.items() if n not in record.files and (folder / n).is_file()}
    facts = ("weights_sha256", "classes", "mean", "std", "preparation", "peer", "checkpoint")
    if all(getattr(before, name) == getattr(record, name) for name in facts):
        return replace(record, files={**others, **record.files}), []
    return record, list(others)


def publish(stage: Path, folder: Path, stale: list[str]) -> None:
    """Move all files of the stage into the folder, student.json last, and remove the stale ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for file in sorted(stage.iterdir(), key=lambda path: path.name == STUDENT):
        file.replace(folder / file.name)
