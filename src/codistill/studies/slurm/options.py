"""What the user asks of Slurm: options of sbatch, and nothing that codistill sets itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codistill.errors import UserError

__all__ = ["Slurm", "slurm_of"]

OURS = (
    *("array", "chdir", "clusters", "dependency", "error", "no-requeue", "open-mode", "output", "parsable", "quiet"),
    *("requeue", "signal", "test-only", "wait", "wrap"),
)
"""Options of sbatch that codistill sets itself, or with which it could not follow its jobs."""

PROGRAMS = ("sbatch", "squeue")


@dataclass(frozen=True)
class Slurm:
    """Train the runs as jobs of Slurm.

    Attributes:
        folder: where the records of the jobs are kept; all nodes see it under the same path.
        options: of sbatch, such as "--partition=gpu".
    """

    folder: Path
    options: tuple[str, ...] = ()


def slurm_of(launcher: str, texts: Sequence[str], devices: Sequence[str], folder: Path) -> Slurm | None:
    """Return what --launcher and --slurm ask for; None for local processes. Nothing is written.

    Args:
        launcher: "local" or "slurm".
        texts: NAME=VALUE,NAME=VALUE,... or a bare NAME; a comma within a value is part of it.
        devices: of --devices, which only local processes can take.
        folder: of the study or comparison.

    Raises:
        UserError: an option that sbatch cannot have from us; --slurm or --devices with the other launcher; no Slurm.
    """
    if launcher != "slurm":
        if texts:
            raise UserError(f"slurm {' '.join(texts)} without --launcher slurm: add it, or leave --slurm out.")
        return None
    if devices:
        raise UserError(
            f"devices {' '.join(devices)} with --launcher slurm: Slurm gives every run its device; leave --devices "
            "out, and ask for GPUs with --slurm gres=gpu:1."
        )
    options = tuple(_option(text) for several in texts for text in re.split(r",(?=[A-Za-z][\w-]*=)", several))
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise UserError(
                f"launcher slurm: there is no {program} on the PATH; start the command on a node from which jobs are "
                "submitted, or leave --launcher out."
            )
    return Slurm((folder / "slurm").absolute(), options)


def _option(text: str) -> str:
    name, equals, value = text.strip().partition("=")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]+", name) or (equals and not value):
        raise UserError(f"slurm {text!r}: give options of sbatch as NAME=VALUE, such as partition=gpu,time=08:00:00.")
    if name in OURS:
        raise UserError(f"slurm {text!r}: codistill needs --{name} of sbatch for itself; leave it out.")
    return f"--{name}={value}" if equals else f"--{name}"
