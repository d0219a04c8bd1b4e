"""Runs of a study as job arrays of Slurm, which share the run directories on a file system that all nodes see."""

from __future__ import annotations

from codistill.studies.slurm.launcher import SlurmArrays
from codistill.studies.slurm.options import Slurm, slurm_of

__all__ = ["Slurm", "SlurmArrays", "slurm_of"]
