"""The folder of a run: whether a run may be written there, and how an earlier one makes way."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from codistill.config import Config
from codistill.errors import RunFailedError, UserError
from codistill.rundir import (
    CHECKPOINTS,
    CONFIG,
    LOCK,
    LOG,
    METRICS,
    REPLACED,
    RUN_FILES,
    STUDENT,
    SUMMARY,
    StudentRecord,
    YamlError,
    leftovers,
    lock_run,
    make_folder,
    read_record,
    read_yaml,
    remove,
)
from codistill.training.checkpoint import latest

__all__ = [
    "EXPORT", "has_only_begun", "in_progress", "move_aside", "put_back", "refuse_used_folder", "starting",
]  # fmt: skip

EXPORT = "export"
"""Where in its run directory a student is exported to, if no other folder is named."""

EXPORTED = tuple(
    f"{EXPORT}/{name}"
    for name in (
        *("student.safetensors", "model.safetensors", "student.pt2", "student.onnx"),
        *("config.json", "prepare.py", "README.md", STUDENT),
    )
)
"""What an export writes there. It is of the run, and goes with it: another run's student is not to be taken for its."""

OURS = {LOCK, LOG, REPLACED}
"""What may lie in a folder without a run."""

IN_ORDER = (CHECKPOINTS, *(name for name in RUN_FILES if name != CHECKPOINTS))
"""How the files of a run are moved aside, and in reverse put back, after what was exported from it."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def refuse_used_folder(config: Config, out: Path, overwrite: bool) -> None:
    """Raise UserError where this run cannot be written to `out`: it holds something else, or another process is there.

    Nothing is changed.
    """
    if file := next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None):
        raise UserError(f"out {file} is a file: give the path of a folder.")
    for what, names in (("the teacher", config.teachers), ("the start", config.init)):
        if any(Path(name).resolve() == out.resolve() for name in names):
            raise UserError(f"out {out} is {what} of this run, which would be replaced: give another --out.")
    found = sorted(path.name for path in out.iterdir()) if out.exists() else []
    others = [name for name in found if name not in OURS and out / name not in leftovers(out)]
    if not others:
        return
    if not _is_ours(out):
        raise UserError(
            f"out {out} is not empty and holds no run (there is {', '.join(others[:3])}"
            f"{' and more' if len(others) > 3 else ''}): give another --out, or empty it yourself."
        )
    if not overwrite:
        raise UserError(
            f"out {out} already holds a run: continue it with 'codistill resume {out}', replace it with --overwrite, "
            "or give another --out."
        )
    with lock_run(out):
        pass


def has_only_begun(out: Path) -> bool:
    """Whether a folder holds a run that was ended before its first checkpoint, so that nothing is lost with it."""
    return _is_ours(out) and latest(out) is None and not any((out / n).exists() for n in (SUMMARY, METRICS, REPLACED))


def move_aside(out: Path) -> None:
    """Move an earlier run to a folder in `out`, where it stays until the new one has its first checkpoint."""
    put_back(out)
    for path in leftovers(out):
        remove(path)
    names = [name for name in (*IN_ORDER, *_exported(out)) if (out / name).exists()]
    # Checkpoints first: without them, `put_back` knows that the new run has not begun.
    for name in names:
        make_folder((out / REPLACED / name).parent)
        (out / name).rename(out / REPLACED / name)
    # What else lies in the folder is the user's.
    with suppress(OSError):
        (out / EXPORT).rmdir()


def put_back(out: Path) -> None:
    """After a fault between `move_aside` and the new run's first checkpoint: put the earlier run back, and say so."""
    aside = out / REPLACED
    if not aside.is_dir():
        return
    if latest(out) is None:
        names = [name for name in (*EXPORTED, *reversed(IN_ORDER)) if (aside / name).exists()]
        # Checkpoints last, so that a fault here finds the same again.
        for name in names:
            remove(out / name)
            make_folder((out / name).parent)
            (aside / name).rename(out / name)
        if names:
            warnings.warn(
                f"{out}: the run that was to be replaced is back, since the new one never began", stacklevel=3
            )
    remove(aside)


@contextmanager
def starting(out: Path, remedy: str = "give another --out") -> Iterator[None]:
    """Turn what the disk refuses before training, or of a finished run, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out {error.filename or out} cannot be written ({error.strerror}): {_remedy(error, remedy)}."
        ) from error


@contextmanager
def in_progress(out: Path) -> Iterator[None]:
    """Turn what ends a run that has begun, if it is no fault of ours, into a RunFailedError; other errors pass."""
    try:
        yield
    except RunFailedError:
        raise
    except UserError as error:
        raise RunFailedError(str(error)) from error
    except OSError as error:
        if error.filename is None or not Path(str(error.filename)).is_relative_to(out):
            raise
        raise RunFailedError(
            f"{error.filename} cannot be written ({error.strerror}): {_remedy(error, 'see to it')}, then continue from "
            f"the last checkpoint with 'codistill resume {out}'."
        ) from error


def _remedy(error: OSError, otherwise: str) -> str:
    return "make room on the disk" if error.errno in FULL else otherwise


def _exported(out: Path) -> tuple[str, ...]:
    """EXPORTED, if codistill has written a student there; other programs call their folders so, too."""
    try:
        read_record(out / EXPORT / STUDENT, StudentRecord)
    except (OSError, UserError):
        return ()
    return () if (out / EXPORT).is_symlink() else EXPORTED


def _is_ours(out: Path) -> bool:
    """Whether config.yaml is one of a run: other programs call their files so, too."""
    try:
        settings = read_yaml(out / CONFIG)
    except (OSError, YamlError):
        return False
    return isinstance(settings, dict) and {"version", "method", "model", "peers"} <= settings.keys()
