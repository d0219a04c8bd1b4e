"""What `codistill compare` is asked for; the text after a field is its help on the command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Suppress, UseAppendAction

from codistill.config import Config
from codistill.meaning import setting

__all__ = ["CompareRequest"]


@dataclass(frozen=True)
class CompareRequest(Config):
    """Train a network alone and with chosen methods over several seeds, and say in words whether they helped."""

    method: Suppress[str] = "okddip"
    label: Suppress[str | None] = None
    teachers: Suppress[tuple[str, ...]] = ()
    method_options: Suppress[dict[str, Any]] = dataclasses.field(default_factory=dict)
    mesh: Suppress[str | None] = None
    sync_batch_norm: Suppress[bool] = True
    rank_timeout: Suppress[float] = 300.0
    seed: int = setting(0, "seed")
    """The first seed; the others follow it."""
    out: Path | None = setting(None, "nothing")
    """Folder of the comparison; runs/compare-DATA-MODEL if left out."""
    deterministic: bool = setting(True, "rounding")
    """Auto: choose the executor by a rule, so that repeated runs give the same numbers; runs side by side would also
    disturb a trial."""
    methods: tuple[str, ...] = ("okddip", "dml")
    """Methods to compare with the network alone, each as NAME or NAME,SETTING=VALUE,... such as okddip,group=branches
    or dml,temperature=2. group, split, icl, peers, augment.policies and the method's own options may differ."""
    seeds: int = 3
    """Number of seeds; each trains every variant once."""
    equal_compute: bool = False
    """Also compare with what else the computation buys: the network alone for as many more epochs as a method costs,
    with label smoothing 0.1, and with averaged weights (0.999)."""
    teacher: str | None = None
    """A frozen teacher, named as in the option --teachers of train, for kd, which is added to the methods."""
    tune: bool = False
    """First search temperature and weight of each method that has them on the validation images, with a seed of its
    own."""
    jobs: int | None = None
    """Runs at the same time, each in its own process; if left out, one per device, or one per CPU core. With
    Slurm, tasks at the same time; if left out, as many as it starts."""
    devices: tuple[str, ...] = ()
    """Devices for the runs to take in turn, such as cuda:0 cuda:1; --device if left out."""
    launcher: Literal["local", "slurm"] = "local"
    """local: worker processes of this machine; slurm: one task of a job array per run (docs/clusters.md)."""
    slurm: tuple[str, ...] = ()
    """With --launcher slurm: options of sbatch as NAME=VALUE,NAME=VALUE, such as
    partition=gpu,gres=gpu:1,time=08:00:00,cpus-per-task=4."""
    dry_run: bool = False
    """Check everything, list the runs that are done and those to do, and stop."""
    config: Path | None = None
    """Start from this config.yaml of an earlier run; the other options of the command line override it."""
    set: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Any setting by its dotted name, for all variants: --set optim.lr=0.05. An option of a method, such as
    method_options.temperature=2, goes to every method that has it."""
