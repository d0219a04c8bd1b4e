"""The network as a program of torch.export, which runs with torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codistill.export.job import Job, Written, inside, quiet, refusing
from codistill.rundir import STUDENT, FileRecord

__all__ = ["example_of", "write_program"]


def write_program(job: Job) -> Written:
    """Write student.pt2, for batches of any size, with the student's record as an extra file in it.

    Raises:
        UserError: torch.export cannot follow the network.
    """
    name, record = "student.pt2", FileRecord(format="torch-export")
    batch = torch.export.Dim("batch")
    with quiet(), refusing(job.record.model, "torch-export"):
        program = torch.export.export(job.student, (example_of(job),), dynamic_shapes=({0: batch},))
    path = job.stage / name
    with quiet():
        torch.export.save(program, path, extra_files={STUDENT: inside(job, name, record)})
        network: Any = torch.export.load(path).module()
    return Written(name, record, network)


def example_of(job: Job) -> Tensor:
    """Return a batch of two images for tracing; a batch of one would be taken for a constant."""
    return torch.zeros(2, job.record.channels, job.record.height, job.record.width)
