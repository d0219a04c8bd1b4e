"""Students that were exported as a program of torch.export; the code of the network is not needed."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import torch
from torch.export.passes import move_to_device_pass

from codistill.errors import UserError, one_line
from codistill.rundir import STUDENT, StudentRecord
from codistill.rundir.files import parse_record
from codistill.students.network import NetworkStudent
from codistill.students.student import Student, preparation_in
from codistill.training.check import resolve_device
from codistill.trusted import check_program

__all__ = ["from_program"]


def from_program(file: Path, device: str) -> Student:
    """Return the student in a .pt2 file; see `open_student`."""
    # What is no archive is refused below, before anything in it is read.
    if zipfile.is_zipfile(file):
        check_program(file)
    program, text = _loaded(file)
    if not text:
        raise UserError(f"{file} does not name its classes: it was not written by 'codistill export'.")
    record = parse_record(str(file), file, text.encode(), StudentRecord)
    moved = move_to_device_pass(program, resolve_device(device))
    return NetworkStudent(moved.module(), device, file, record.classes, preparation_in(record, file))


def _loaded(file: Path) -> tuple[torch.export.ExportedProgram, str]:
    """The program and the text of its record, empty if there is none."""
    extra = {STUDENT: ""}
    # Of a damaged file, torch prints the traceback before it raises the error.
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return torch.export.load(str(file), extra_files=extra), extra[STUDENT]
    except Exception as error:  # What torch raises for a damaged file differs between versions.
        raise UserError(
            f"{file} cannot be read as a program of torch.export ({one_line(error)[:200]}): export the student again."
        ) from error
    finally:
        log.setLevel(level)
