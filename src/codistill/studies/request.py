"""What `codistill study` is asked for; the text after a field is its help on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, Suppress, arg

__all__ = ["StudyRequest"]


@dataclass(frozen=True)
class StudyRequest:
    """Run the experiment behind a table or figure of the papers, and report it next to the paper's numbers."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="STUDY...")]
    """Studies such as okddip/table2; okddip, kdcl or all for several of them; list, or list okddip, to see them."""
    profile: Literal["smoke", "cpu", "gpu", "paper"] = "cpu"
    """paper: the papers' own settings; gpu: their networks for CIFAR on Fashion-MNIST and Glyphs-100, for one GPU; cpu:
    small networks and data, the same methods and protocol; smoke: a quick check that everything runs."""
    reading: Literal["slides", "released"] = "slides"
    """OKDDip's studies: train every column by the equations of the slides, or as the authors' released code does."""
    unclear_epochs: int | None = None
    """KDCL's studies: epochs of the networks whose length the slides leave open; the full length if left out."""
    seeds: int | None = None
    """Number of seeds, counted from 0; 3 if left out, 2 for smoke."""
    only: tuple[str, ...] = ()
    """Rows of the table, such as resnet32; all of them if left out."""
    methods: tuple[str, ...] = ()
    """Methods, or columns of the table; all of them if left out."""
    jobs: int | None = None
    """Runs at the same time, each in its own process; if left out, one per device, or one per CPU core. Several fit on
    one GPU: small networks do not fill it. With Slurm, tasks at the same time; if left out, as many as it starts."""
    devices: tuple[str, ...] = ()
    """Devices for the runs to take in turn, such as cuda:0 cuda:1; each run's own setting if left out."""
    launcher: Literal["local", "slurm"] = "local"
    """local: worker processes of this machine; slurm: one task of a job array per run (docs/clusters.md)."""
    slurm: tuple[str, ...] = ()
    """With --launcher slurm: options of sbatch as NAME=VALUE,NAME=VALUE, such as
    partition=gpu,gres=gpu:1,time=08:00:00,cpus-per-task=4."""
    out: Path = Path("runs/studies")
    """Folder for all studies, which share their runs there; each profile has its own folder in it."""
    dry_run: bool = False
    """List the runs that are done and those to do, and stop."""
    command: Suppress[str] = "codistill study"
