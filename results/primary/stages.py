"""The finished runs of the plans: what runs.csv and runs-gpu.csv have, and what the plans are called."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from codistill.reports.statistics import estimate

HERE = Path(__file__).parent
NAMED = ("dml", "kdcl", "okddip_self", "okddip_others")
ROWS = ("baseline", "ind", *NAMED)
MARGIN, SEEDS = 0.3, 10
LABELS = {
    "dml": "DML",
    "kdcl": "KDCL-MinLogit, ICL",
    "okddip_self": "OKDDip as on the slides",
    "okddip_others": "OKDDip over the others",
}
OTHERS = {
    "alone_wd0.0025": "alone, OKDDip's weight decay",
    "alone_lr0.1": "alone, DML's rate",
    "alone240": "alone, four times as long",
    "average": "alone, averaged weights",
    "smoothing": "alone, smoothed labels",
    "kd": "taught by a frozen ResNet-14",
}
DESIGNS = {
    "primary": ("Primary design", ROWS),
    "resnet32": ("ResNet-32 at 32 × 32", ROWS[1:]),
    "finetune": ("From trained weights", ROWS),
    "other_data": ("Fashion-MNIST, settings of the glyphs", ROWS[1:]),
    "solar": ("Solar cells, photographs", ROWS[1:]),
}
TESTS = ("primary", "finetune")
UNTUNED = ("other_data",)
LONG = ("alone240", "alone960", "okddip_others240")
CONTROLS = {"alone_lr0.1": ("dml",), "alone_wd0.0025": ("okddip_self", "okddip_others")}
POINTS = {
    "images1000-": "1,000 images",
    "": "3,000 images, 60 epochs, four students",
    "images5000-": "5,000 images",
    "images20000-": "20,000 images, 20 epochs",
    "epochs15-": "15 epochs",
    "epochs240-": "240 epochs",
    "students2-": "two students",
    "students8-": "eight students",
}


@cache
def all_runs() -> list[dict[str, str]]:
    """All runs and the file they are from; where the CPU and the GPU both did one, the GPU's comes last and counts."""
    found: list[dict[str, str]] = []
    for name in ("runs.csv", "runs-gpu.csv"):
        with (HERE / name).open(encoding="utf-8") as file:
            found += [run | {"file": name} for run in csv.DictReader(file)]
    return found


class Stage:
    """The finished runs of one plan, on the seeds that all `rows` have from one file: no CPU is paired with a GPU."""

    def __init__(self, name: str, rows: Sequence[str] = ROWS) -> None:
        self.runs = {(r["row"], int(r["seed"])): r for r in all_runs() if r["stage"] == name}
        self.name, self.rows = name, rows
        self.seeds = sorted(seed for seed in {seed for _, seed in self.runs} if self._complete(seed))

    def _complete(self, seed: int) -> bool:
        found = [self.runs.get((row, seed)) for row in self.rows]
        return all(found) and len({run["file"] for run in found if run}) == 1

    def values(self, row: str, column: str = "test_error") -> list[float]:
        """One number per seed."""
        return [float(self.runs[row, seed][column]) for seed in self.seeds]

    def students(self, row: str) -> list[list[float]]:
        """The test errors of the four students, student by student."""
        return [self.values(row, f"test_error_{i}") for i in range(4)]

    def alone(self) -> list[float]:
        """The network alone: the mean of the four of `ind`."""
        return [sum(of_seed) / 4 for of_seed in zip(*self.students("ind"), strict=True)]

    def work(self, row: str) -> float:
        """Multiply-accumulates of training, in 10^12."""
        return estimate(self.values(row, "tera_macs")).mean

    def minutes(self, row: str) -> float | None:
        """CPU minutes of a run, on the seeds where every row knows them; an interrupted run does not."""
        known = [s for s in self.seeds if all(self.runs[other, s]["cpu_seconds"] for other in self.rows)]
        return estimate([float(self.runs[row, s]["cpu_seconds"]) / 60 for s in known]).mean if known else None


def on_same_seeds(*stages: Stage) -> tuple[Stage, ...]:
    """The same plans, each on the seeds that all of them have."""
    common = sorted(set.intersection(*(set(stage.seeds) for stage in stages)))
    for stage in stages:
        stage.seeds = common
    return stages
