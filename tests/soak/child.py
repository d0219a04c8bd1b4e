"""Runs that soak tests begin, disturb, continue and compare: each in a fork of a process that has torch loaded."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from codistill import UserError, data
from codistill.training import Config, OptimConfig, resume, saver, train
from codistill.training.checkpoint import latest

__all__ = ["CONFIG", "Ended", "begin", "forked", "go_on", "interrupted", "numbers"]

# As in a terminal: a process in the background may have been told to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A fork has one thread only, and a pool of threads that the parent has started is lost in it.
torch.set_num_threads(1)
# All epochs are saved, since what is tested is saving.
saver.SECONDS = 0.0

_FULL = data.load("digits")
import dataclasses  # noqa: E402

DIGITS = dataclasses.replace(_FULL, train=_FULL.train.take(torch.arange(160)), test=_FULL.test.take(torch.arange(40)))
CONFIG = Config(
    method="okddip", model=("resnet8_tiny",), peers=3, group="branches", epochs=3, batch_size=32, device="cpu",
    executor="loop", threads=1, deterministic=True, optim=OptimConfig(lr=0.05),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a fork ended: its exit code (negative for a signal) and what it printed."""

    code: int
    text: str

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.text


def forked(action: Callable[[], Any], kill_after: float | None = None, number: int = signal.SIGKILL) -> Ended:
    """Run `action` in a fork; a UserError is printed and ends it with its exit code, as on the command line.

    Args:
        action: what to do.
        kill_after: seconds after which the fork gets a signal.
        number: the signal.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os._exit(_code_of(action))
    os.close(write)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
    with os.fdopen(read, errors="replace") as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), text)


def _code_of(action: Callable[[], Any]) -> int:
    try:
        action()
    except UserError as error:
        print(f"codistill: error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        return getattr(stop, "code", 130)
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def begin(out: Path, **changes: Any) -> None:
    """Train from the start."""
    train(dataclasses.replace(CONFIG, out=out, **changes), dataset=DIGITS, overwrite=True)


class _Stop:
    """Sends SIGTERM to its own process in the third epoch."""

    def on_start(self, session: Any) -> None: ...

    def on_step(self, session: Any, step: int, steps: int) -> None:
        if session.epoch == 2 and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch(self, session: Any, record: Any) -> None: ...

    def on_end(self, session: Any, summary: Any) -> None: ...


def interrupted(out: Path) -> None:
    """Train until SIGTERM comes in the last epoch."""
    train(dataclasses.replace(CONFIG, out=out), dataset=DIGITS, observers=[_Stop()])


def go_on(out: Path) -> None:
    """Continue, or begin where nothing was saved yet."""
    if latest(out) is None:
        begin(out)
    else:
        resume(out, dataset=DIGITS)


def numbers(out: Path) -> tuple[Any, ...]:
    """All that a disturbed run must have in common with one that was left alone."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    epochs = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]
    summary = json.loads((out / "summary.json").read_text())
    newest = latest(out)
    assert newest is not None
    weights = load_file(newest / "weights.safetensors")
    return epochs, summary["last"], summary["selected"], {name: x.numpy().tobytes() for name, x in weights.items()}


def arm(folder: Path, operation: int, action: int) -> None:
    """Let one operation on files below a folder fail in this process, which was started with faults.so preloaded."""
    ctypes.CDLL(None).faults_arm(str(folder).encode(), ctypes.c_long(operation), action)


def operations() -> int:
    """How many operations were counted since `arm`."""
    return int(ctypes.CDLL(None).faults_count())
