"""Analyse runs.csv and runs-gpu.csv: python results/primary/analyse.py; writes analysis.md and differences.svg.

The rows of the primary design, the named comparisons (paired t, Holm, two one-sided tests), secondary comparators and
power; then the exploratory plans as far as they have runs. A seed counts only if all the rows of its plan are there.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from codistill.reports.numbers import interval, mean_std, number, p_value
from codistill.reports.statistics import SIGNIFICANT, Paired, detectable, equivalence, estimate, holm, paired

HERE = Path(__file__).parent
NAMED = ("dml", "kdcl", "okddip_self", "okddip_others")
ROWS = ("baseline", "ind", *NAMED)
MARGIN, SEEDS = 0.3, 10


def all_runs() -> Iterator[dict[str, str]]:
    """All runs; where the CPU and the GPU both did one, the GPU's comes last and counts."""
    for name in ("runs.csv", "runs-gpu.csv"):
        with (HERE / name).open(encoding="utf-8") as file:
            yield from csv.DictReader(file)


class Stage:
    """The finished runs of one plan, on the seeds that all `rows` have."""

    def __init__(self, name: str, rows: Sequence[str] = ROWS) -> None:
        self.runs = {(r["row"], int(r["seed"])): r for r in all_runs() if r["stage"] == name}
        self.rows = rows
        self.seeds = sorted(s for s in {s for _, s in self.runs} if all((row, s) in self.runs for row in rows))

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
        """CPU minutes of a run, where they are known; an interrupted run does not know them."""
        known = [float(v) / 60 for s in self.seeds if (v := self.runs[row, s]["cpu_seconds"])]
        return sum(known) / len(known) if known else None


def verdict(found: Paired, p: float | None, same: float | None) -> str:
    """The protocol's word for a comparison."""
    words = [] if p is None or p >= SIGNIFICANT else ["helps" if found.difference.mean < 0 else "harms"]
    words += ["equivalent"] if same is not None and same < SIGNIFICANT else []
    return ", ".join(words) or "undecided"


def family(title: str, pairs: Mapping[str, tuple[list[float], list[float]]], enough: bool) -> Iterator[str]:
    """The lines of one family of comparisons: row -> its errors and those it is compared with."""
    found = {row: paired(*both) for row, both in pairs.items()}
    p, same = holm([f.p for f in found.values()]), holm([equivalence(f, MARGIN) for f in found.values()])
    yield f"\n### {title}\n"
    yield "| row | difference | 95 % interval | SD | d_z | p | p, Holm | p, equivalence, Holm | verdict |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for (row, f), a, b in zip(found.items(), p, same, strict=True):
        gap = f.difference
        cells = [row, number(gap.mean, sign=True), interval(gap), number(gap.std), number(f.effect)]
        cells += [*map(p_value, (f.p, a, b)), verdict(f, a, b) if enough else "partial"]
        yield f"| {' | '.join(cells)} |"


def design(stage: Stage, title: str, secondary: bool) -> Iterator[str]:
    """The six rows of a plan, the four comparisons, and those with other comparators."""
    n, enough = len(stage.seeds), len(stage.seeds) >= SEEDS
    yield f"\n## {title}: {n} complete seeds" + ("" if enough else ", partial: no verdicts")
    if n < 2:
        return
    yield "\n| row | test error % | ensemble % | arithmetic, × baseline | CPU minutes |\n|---|---:|---:|---:|---:|"
    for row in stage.rows:
        cells = [mean_std(estimate(stage.values(row, column))) for column in ("test_error", "ensemble_test_error")]
        cells += [number(stage.work(row) / stage.work("baseline"), 1), number(stage.minutes(row), 1)]
        yield f"| {row} | {' | '.join(cells)} |"
    same = stage.values("baseline") == stage.students("ind")[0]
    yield f"\nStudent 0 of `ind` equals `baseline` on every seed: {'yes' if same else 'NO'}."
    alone, of = stage.alone(), {row: stage.values(row) for row in NAMED}
    named = {row: (of[row], alone) for row in NAMED}
    yield from family("Against the network alone (mean of the four of ind): the named comparisons", named, enough)
    if secondary:
        yield from other_comparators(stage, enough)
    gaps = [paired(*both).difference.std or 0.0 for both in named.values()]
    pooled = math.sqrt(sum(std**2 for std in gaps) / len(gaps))
    least = [number(detectable(pooled, n, level)) for level in (SIGNIFICANT, SIGNIFICANT / len(NAMED))]
    yield f"\nPooled SD of the named differences: {number(pooled)} points. Found four times in five: a difference of"
    yield f"{least[0]} points at 0.05, of {least[1]} at 0.0125."


def other_comparators(stage: Stage, enough: bool) -> Iterator[str]:
    """The same comparisons with the students of the same initial weights, and with one network alone."""
    alone, of, last = stage.alone(), {row: stage.values(row) for row in NAMED}, stage.students("ind")[3]
    paired_weights = {row: (of[row], last if row.startswith("okddip") else alone) for row in NAMED}
    yield from family("Secondary: against the students of ind with the same initial weights", paired_weights, enough)
    single = {row: (of[row], stage.values("baseline")) for row in NAMED}
    yield from family("Secondary: against row baseline, one network", single, enough)


def gap_cell(values: list[float], others: list[float]) -> str:
    """A difference with its interval, for a table."""
    gap = paired(values, others).difference
    return f"{number(gap.mean, sign=True)} ({interval(gap)})"


def same_money(primary: Stage) -> Iterator[str]:
    """Every method against what else a user would try for the same money, on the same seeds."""
    others = ("alone_wd0.0025", "alone240", "average", "smoothing", "kd")
    stage = Stage("equal_compute", others)
    seeds = sorted(set(stage.seeds) & set(primary.seeds))
    yield f"\n## What else the money buys (exploratory): {len(seeds)} seeds"
    if len(seeds) < 2:
        return
    stage.seeds = primary.seeds = seeds
    best = []
    for seed in seeds:
        run = primary.runs["ind", seed]
        chosen = min(range(4), key=lambda i: float(run[f"validation_error_{i}"]))
        best.append(float(run[f"test_error_{chosen}"]))
    found = {"alone": (primary.alone(), 1.0), "best of four on validation": (best, 4.0)}
    found |= {row: (stage.values(row), stage.work(row) / primary.work("baseline")) for row in others}
    titles = ["row", "test error %", "arithmetic, × alone", *(f"{m} minus it" for m in NAMED)]
    yield f"\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}"
    for row, (values, work) in found.items():
        cells = [mean_std(estimate(values)), number(work, 1), *(gap_cell(primary.values(m), values) for m in NAMED)]
        yield f"| {row} | {' | '.join(cells)} |"
    yield "\nDifferences in points with uncorrected 95 % intervals; below 0 the method is better."


def regime() -> Iterator[str]:
    """Gains away from the primary design, one network alone per seed."""
    points = ("", "images1000-", "images5000-", "images20000-", "epochs15-", "epochs240-", "students2-", "students8-")
    yield "\n## Where it helps (exploratory)"
    yield "\n| point | seeds | alone % | DML, difference | OKDDip over the others, difference |"
    yield "|---|---:|---:|---:|---:|"
    for point in points:
        base = "alone" if point.startswith("students") else f"{point}alone"
        rows = (base, f"{point}dml", f"{point}okddip_others")
        stage = Stage("regime", rows)
        if len(stage.seeds) > 1:
            alone = stage.values(base)
            cells = [gap_cell(stage.values(row), alone) for row in rows[1:]]
            name = point.rstrip("-") or "3,000 images, 60 epochs, four"
            yield f"| {name} | {len(stage.seeds)} | {mean_std(estimate(alone))} | {' | '.join(cells)} |"


def draw(stages: Mapping[str, Stage], path: Path) -> None:
    """Differences to the network alone with 95 % intervals, seeds as dots, and the margin of equivalence as a band."""
    figure = Figure(figsize=(7, 0.9 + 1.6 * len(stages)), layout="constrained")
    axes = figure.subplots(len(stages), 1, squeeze=False, sharex=True)
    for axis, (title, stage) in zip(axes.flat, stages.items(), strict=True):
        axis.axvspan(-MARGIN, MARGIN, color="#dddddd", lw=0)
        axis.axvline(0, color="#555555", lw=1)
        for height, row in enumerate(reversed(NAMED)):
            gap = paired(stage.values(row), stage.alone()).difference
            axis.plot(gap.values, [height - 0.22] * gap.n, "o", ms=3, color="#0b5fa5", alpha=0.5)
            axis.plot([gap.low, gap.high], [height, height], color="#0b5fa5")
            axis.plot([gap.mean], [height], "o", color="#0b5fa5")
        axis.set(yticks=range(len(NAMED)), yticklabels=reversed(NAMED), title=f"{title}, {len(stage.seeds)} seeds")
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("difference in test error to the network alone, points (left: better)", fontsize=10)
    mpl.rcParams["svg.hashsalt"] = "codistill"  # the same figure is the same file
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Write analysis.md, and differences.svg once a plan has two seeds."""
    titles = {
        "primary": "Primary design",
        "finetune": "From trained weights",
        "other_data": "Fashion-MNIST",
        "solar": "Solar cells",
    }
    stages = {title: Stage(name) for name, title in titles.items()}
    lines = ["# Analysis of runs.csv", "", "Written by analyse.py; what it means is in [primary.md](../primary.md)."]
    for title, stage in stages.items():
        lines += design(stage, title, secondary=stage is stages["Primary design"])
    drawn = {title: stage for title, stage in stages.items() if len(stage.seeds) > 1}
    if drawn:
        draw(drawn, HERE / "differences.svg")
    lines += [*same_money(Stage("primary")), *regime()]
    (HERE / "analysis.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
