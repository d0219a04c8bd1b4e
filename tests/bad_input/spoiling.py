"""What is wrong before a command is given: each has words for the page, and acts on the current folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from filelock import FileLock

from codistill.rundir import sealed

__all__ = [
    "Spoiled", "cut", "dying_reader", "edited", "filled_up", "flipped", "full_after_an_epoch", "full_disk", "locked",
    "made", "no_device", "no_token", "read_only", "removed", "vanishing", "without", "written",
]  # fmt: skip


@dataclass(frozen=True)
class Spoiled:
    """Attributes: words: for the page; act: does it, and leaves in the stack what undoes it."""

    words: str
    act: Callable[[ExitStack], object]


def cut(path: str) -> Spoiled:
    """A file loses its second half."""

    def act(_: ExitStack) -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])

    return Spoiled(f"{path} is cut off in its middle", act)


def flipped(path: str) -> Spoiled:
    """A bit in the middle of each of the files that the pattern names is another."""

    def act(_: ExitStack) -> None:
        for file in Path().glob(path):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)

    return Spoiled(f"one bit of {path} is flipped", act)


def removed(path: str) -> Spoiled:
    """A file or folder is gone."""

    def act(_: ExitStack) -> None:
        for place in list(Path().glob(path)):
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return Spoiled(f"{path} is removed", act)


def written(path: str, content: str | bytes, words: str) -> Spoiled:
    """A file holds something else."""

    def act(_: ExitStack) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return Spoiled(f"{path} {words}", act)


def edited(path: str, before: str, after: str, words: str) -> Spoiled:
    """A text in a file is replaced, and a checksum of the file in itself follows."""

    def act(_: ExitStack) -> None:
        text = Path(path).read_text(encoding="utf-8")
        assert before in text
        text = text.replace(before, after, 1)
        if path.endswith("summary.json"):
            text = json.dumps(sealed(json.loads(text)))
        Path(path).write_text(text, encoding="utf-8")

    return Spoiled(f"{path} {words}", act)


def made(folder: str) -> Spoiled:
    """An empty folder."""
    return Spoiled(f"{folder} is an empty folder", lambda _: Path(folder).mkdir(parents=True))


def filled_up(path: str, content: str, words: str) -> Spoiled:
    """A line is put before the last one."""

    def act(_: ExitStack) -> None:
        *lines, last = Path(path).read_text(encoding="utf-8").splitlines()
        Path(path).write_text("\n".join([*lines, content, last, ""]), encoding="utf-8")

    return Spoiled(f"{path} {words}", act)


def locked(folder: str) -> Spoiled:
    """Another process trains into a run directory."""

    def act(stack: ExitStack) -> None:
        stack.enter_context(FileLock(Path(folder) / ".lock", timeout=0))

    return Spoiled(f"another process trains into {folder}", act)


def without(*packages: str) -> Spoiled:
    """Packages are not installed."""

    def act(stack: ExitStack) -> None:
        hidden = {name: None for name in sys.modules if name.partition(".")[0] in packages}
        stack.enter_context(mock.patch.dict(sys.modules, hidden | dict.fromkeys(packages)))

    return Spoiled(f"{packages[0]} is not installed", act)


def no_token() -> Spoiled:
    """Nobody is logged in to the Hugging Face Hub."""

    def act(stack: ExitStack) -> None:
        import huggingface_hub

        stack.enter_context(mock.patch.object(huggingface_hub, "get_token", return_value=None))

    return Spoiled("there is no token for the Hugging Face Hub", act)


def read_only() -> Spoiled:
    """No folder can be made."""
    return Spoiled("the disk is read-only", lambda stack: _patch(stack, Path, "mkdir", errno.EROFS))


def full_disk() -> Spoiled:
    """Nothing more gets to the disk."""
    from codistill.rundir import durable

    return Spoiled("the disk is full", lambda stack: _patch(stack, durable, "_sync", errno.ENOSPC))


def full_after_an_epoch(run: str) -> Spoiled:
    """The first line of metrics.jsonl does not fit."""
    from codistill.training import loop

    file = str(Path(run) / "metrics.jsonl")
    return Spoiled(
        "the disk is full after the first epoch", lambda stack: _patch(stack, loop, "append_epoch", errno.ENOSPC, file)
    )


def no_device(run: str) -> Spoiled:
    """The run's device is none of this machine."""
    act = mock.patch("codistill.training.elsewhere.is_here", return_value=False)
    return Spoiled(f"the device of {run} is not here", lambda stack: stack.enter_context(act))


def vanishing(path: str) -> Spoiled:
    """A file goes when the first epoch begins."""
    from codistill.training import loop

    real = loop.train_epoch

    def train_epoch(*arguments: Any) -> Any:
        Path(path).unlink()
        return real(*arguments)

    act = mock.patch.object(loop, "train_epoch", train_epoch)
    return Spoiled(f"{path} goes when the first epoch begins", lambda stack: stack.enter_context(act))


def dying_reader() -> Spoiled:
    """The process that reads pictures ahead is killed."""
    from codistill.data import workers
    from codistill.data.pictures import FilePictures

    def act(stack: ExitStack) -> None:
        ours, real = os.getpid(), FilePictures.open

        def open_or_die(pictures: Any, index: int) -> Any:
            if os.getpid() != ours:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(pictures, index)

        stack.enter_context(mock.patch.object(FilePictures, "open", open_or_die))
        stack.enter_context(mock.patch.object(workers, "LOOK", 0.2))

    return Spoiled("the process that reads pictures is killed", act)


def _patch(stack: ExitStack, owner: object, name: str, number: int, file: str | None = None) -> None:
    error = OSError(number, os.strerror(number), *([file] if file else []))
    stack.enter_context(mock.patch.object(owner, name, side_effect=error))
