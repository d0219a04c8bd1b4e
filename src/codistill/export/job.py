"""What every format needs to write the student, and what it returns."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from codistill.config import Config
from codistill.errors import UserError, one_line
from codistill.export.check import Network
from codistill.export.request import ExportRequest
from codistill.export.samples import Samples
from codistill.rundir import FileRecord, StudentRecord

__all__ = ["Job", "Written", "inside", "quiet", "refusing"]


@dataclass(frozen=True, eq=False)
class Job:
    """One export.

    Attributes:
        stage: a folder of its own, whose files are moved to the user's once they are checked.
        request: what was asked for.
        config: of the run.
        student: the student as it is in its group, in evaluation mode, on the CPU.
        build: makes the plain network again, with other weights.
        record: of the student, without files.
        calibration: training images, for int8.
    """

    stage: Path
    request: ExportRequest
    config: Config
    student: nn.Module
    build: Callable[[], nn.Module]
    record: StudentRecord
    calibration: Samples | None


class Written(NamedTuple):
    """A file in the stage, what it is, and the network that was read from it again."""

    name: str
    record: FileRecord
    network: Network


def inside(job: Job, name: str, record: FileRecord) -> str:
    """Return the record that goes into the file itself, which is then enough to predict with, as one line of JSON."""
    return json.dumps(replace(job.record, data=None, images=None, files={name: record}).to_json(), ensure_ascii=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters, which report every step and what they will change one day, from the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def refusing(model: str, format: str) -> Iterator[None]:
    """Turn whatever an exporter raises for a network that it cannot follow into a UserError."""
    try:
        yield
    except Exception as error:
        reason = one_line(error)[:200].rstrip(".") or type(error).__name__
        raise UserError(
            f"{model} cannot be exported as {format} ({reason}): export it with --format safetensors, or change what "
            "its forward does there."
        ) from error
