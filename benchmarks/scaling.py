"""How a group of students scales with the number of devices: a model for 1 to 1,024, and small meshes on this machine.

    python benchmarks/scaling.py --out scaling.md             the page and its chart, scaling.svg; about ten minutes
    python benchmarks/scaling.py --out scaling.md --no-measure           the model alone, in seconds
    python benchmarks/scaling.py --only ratio                 two processes against two threads, and what they wait

Measure on an idle machine. The processes are started by this program.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from codistill.errors import UserError
from on_gpu.evidence import evidence
from on_meshes.measured import measured, ratio_only
from on_meshes.model import Cluster, Link
from on_meshes.page import busy_machine, goals_of, table_line, write
from on_meshes.setting import Launch
from ratios.show import machine

__all__ = ["Scaling", "main"]


@dataclass(frozen=True)
class Scaling:
    """Time and messages of a step on 1 to 1,024 devices by a model, and on small meshes as measured here."""

    out: Path = Path("scaling.md")
    """The page (Markdown); its chart is written next to it, with the ending .svg."""
    only: Literal["all", "ratio"] = "all"
    """ratio: measure two ResNet-32 in two processes against one process with two threads, print, and write no page."""
    measure: bool = True
    """Measure small meshes on this machine as well."""
    turns: int = 7
    """How often everything is timed, in turns; medians are taken over the turns."""
    calls: int = 2
    """Steps of a turn."""
    batch: int = 128
    """Images of a step in what is measured."""
    tflops: float = 60.6
    """Model: operations per second and device that training reaches, in 10^12; a multiply-accumulate is two."""
    layer: float = 120.0
    """Model: microseconds of the host per layer and pass."""
    bandwidth: float = 92.0
    """Model: gigabytes per second that a process sends in a ring."""
    latency: float = 1.1
    """Model: microseconds of each step of a ring."""
    tree: float = 6.8
    """Model: microseconds of each of log2 n steps where messages start along a tree; in the last table alone."""
    overlap: float = 1.0
    """Model: share of the backward pass during which gradients travel."""

    def cluster(self) -> Cluster:
        """The rates of the model."""
        link = Link(self.bandwidth * 1e9, self.latency * 1e-6)
        return Cluster(self.tflops * 1e12, self.layer * 1e-6, link, self.overlap)

    def check(self) -> None:
        """UserError for a number out of range."""
        for name in ("turns", "calls", "batch", "tflops", "bandwidth"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} {getattr(self, name):g}: give a number above 0.")
        for name in ("layer", "latency", "tree"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} {getattr(self, name):g}: give microseconds, 0 or more.")
        if not 0 <= self.overlap <= 1:
            raise UserError(f"overlap {self.overlap:g}: it is a share of the backward pass; give 0 to 1.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, model and write; a user's mistake is one sentence and exit code 2."""
    given = tyro.cli(Scaling, args=arguments, prog="benchmarks/scaling.py")
    try:
        given.check()
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    before = machine()
    setting = Launch((), "", batch=given.batch, turns=given.turns, calls=given.calls)
    if given.only == "ratio":
        print(before)
        print(busy_machine(before) or "the machine was idle before the start")
        print(*goals_of(ratio_only(setting)), sep="\n")
        return
    found = []
    for one in measured(setting) if given.measure else ():
        found.append(one)
        print(table_line(one), flush=True)
    command = shlex.join(["python", "benchmarks/scaling.py", *(sys.argv[1:] if arguments is None else arguments)])
    facts = {**evidence(command, torch.device("cpu"), 0.0), **before}
    for line in write(given.out, given.cluster(), given.tree * 1e-6, found, facts):
        print(line)


if __name__ == "__main__":
    main()
