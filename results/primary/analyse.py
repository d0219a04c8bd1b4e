"""Analyse runs.csv and runs-gpu.csv: python results/primary/analyse.py; writes analysis.md and three figures.

The rows of the primary design, the named comparisons (paired t, Holm, two one-sided tests), secondary comparators and
power; then the exploratory plans as far as they have runs. A seed counts only if all the rows of its plan are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import figures
from cells import gap, gap_cell, seeds_cell
from explore import best_of_four, branches, longer, same_money, same_money_lines, short, untuned
from stages import DESIGNS, HERE, LABELS, MARGIN, NAMED, OTHERS, POINTS, SEEDS, TESTS, UNTUNED, Stage

from codistill.reports.across_tasks import across_tasks
from codistill.reports.numbers import mean_std, number, p_value, span
from codistill.reports.statistics import SIGNIFICANT, Estimate, Paired, detectable, equivalence, estimate, holm, paired


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
    yield "| row | difference (95 % interval) | SD | d_z | p | p, Holm | p, equivalence, Holm | verdict |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for (row, f), a, b in zip(found.items(), p, same, strict=True):
        cells = [row, gap_cell(f.difference), number(f.difference.std), number(f.effect)]
        cells += [*map(p_value, (f.p, a, b)), verdict(f, a, b) if enough else "–"]
        yield f"| {' | '.join(cells)} |"


def design(stage: Stage) -> Iterator[str]:
    """The rows of a plan and the four comparisons; for the primary design also those with other comparators."""
    n, tests = len(stage.seeds), stage.name in TESTS
    enough = tests and n >= SEEDS
    marked = "" if enough else ", partial: no verdicts" if tests else ", exploratory: no verdicts"
    yield f"\n## {DESIGNS[stage.name][0]}: {n} complete seeds{marked}"
    if n < 2:
        return
    yield "\n| row | test error % | ensemble % | arithmetic, × one network | CPU minutes |\n|---|---:|---:|---:|---:|"
    for row in stage.rows:
        cells = [mean_std(estimate(stage.values(row, column))) for column in ("test_error", "ensemble_test_error")]
        cells += [number(4 * stage.work(row) / stage.work("ind"), 1), number(stage.minutes(row), 1)]
        yield f"| {row} | {' | '.join(cells)} |"
    if "baseline" in stage.rows:
        same = stage.values("baseline") == stage.students("ind")[0]
        yield f"\nStudent 0 of `ind` equals `baseline` on every seed: {'yes' if same else 'NO'}."
    alone, of = stage.alone(), {row: stage.values(row) for row in NAMED}
    named = {row: (of[row], alone) for row in NAMED}
    title = "Against the network alone (mean of the four of ind)"
    yield from family(f"{title}: the named comparisons" if tests else title, named, enough)
    if tests:
        yield from other_comparators(stage, enough)
    yield from exploratory(stage)
    gaps = [gap(*both).std or 0.0 for both in named.values()]
    pooled = math.sqrt(sum(std**2 for std in gaps) / len(gaps))
    least = [number(detectable(pooled, n, level)) for level in (SIGNIFICANT, SIGNIFICANT / len(NAMED))]
    yield f"\nPooled SD of the named differences: {number(pooled)} points. Detectable with power 0.8:"
    yield f"{least[0]} points at 0.05, {least[1]} at 0.0125."


def other_comparators(stage: Stage, enough: bool) -> Iterator[str]:
    """The same comparisons with the students of the same initial weights, and with one network alone."""
    alone, of, last = stage.alone(), {row: stage.values(row) for row in NAMED}, stage.students("ind")[3]
    paired_weights = {row: (of[row], last if row.startswith("okddip") else alone) for row in NAMED}
    yield from family("Secondary: against the students of ind with the same initial weights", paired_weights, enough)
    single = {row: (of[row], stage.values("baseline")) for row in NAMED}
    yield from family("Secondary: against row baseline, one network", single, enough)


def exploratory(stage: Stage) -> Iterator[str]:
    """Methods against each other, each student, and all four students of a group together; uncorrected intervals."""
    groups = [row for row in stage.rows if row != "baseline"]
    pairs = [("okddip_self", "okddip_others"), ("okddip_self", "dml"), ("okddip_others", "dml")]
    pairs += [("okddip_others", "kdcl"), ("dml", "kdcl")]
    yield "\n### Exploratory: methods against each other\n\n| row | against | difference |\n|---|---|---:|"
    for a, b in pairs:
        yield f"| {a} | {b} | {gap_cell(gap(stage.values(a), stage.values(b)))} |"
    yield "\n### Exploratory: each student, test error in %\n\n| row | student 0 | 1 | 2 | 3 |"
    yield "|---|---:|---:|---:|---:|"
    for row in groups:
        yield f"| {row} | {' | '.join(mean_std(estimate(student)) for student in stage.students(row))} |"
    differ = [float(share) for seed in stage.seeds if (share := stage.runs["ind", seed].get("test_disagreement"))]
    if differ:
        share = f"{mean_std(estimate(differ), 1)} % of the test images ({len(differ)} seeds)"
        yield f"\nTwo networks of `ind` predict different classes on {share}."
    yield "\n### Exploratory: all four students together, and the negative log-likelihood (NLL) of the scored student\n"
    yield "| row | all together, minus the network alone | minus four of ind together | NLL, nats | minus ind, nats |"
    yield "|---|---:|---:|---:|---:|"
    nll, vote = stage.values("ind", "test_nll"), stage.values("ind", "ensemble_test_error")
    for row in groups:
        own, together = stage.values(row, "test_nll"), stage.values(row, "ensemble_test_error")
        cells = [gap_cell(gap(together, stage.alone())), gap_cell(gap(together, vote)) if row != "ind" else "–"]
        cells += [mean_std(estimate(own), 3), gap_cell(gap(own, nll), 3) if row != "ind" else "–"]
        yield f"| {row} | {' | '.join(cells)} |"


def draw_first(out: Path) -> None:
    """Write the README's figure: the named comparisons, and what else the same money buys as far as it is known."""
    whole, (primary, stage) = Stage("primary"), same_money()
    others = {"best of four alone, by validation": gap(best_of_four(whole), whole.alone())}
    if len(stage.seeds) > 1:
        others |= {OTHERS[row]: gap(stage.values(row), primary.alone()) for row in stage.rows}
    figures.first(to_alone(whole), others, MARGIN, out / "gain.svg")


def to_alone(stage: Stage) -> dict[str, Estimate]:
    """The named comparisons under their labels, for a figure."""
    return {LABELS[row]: gap(stage.values(row), stage.alone()) for row in NAMED}


def regime() -> tuple[list[str], dict[str, dict[str, Estimate]]]:
    """Gains away from the primary design, one network alone per seed: a table, and the differences for a figure."""
    lines = ["", "## Where it helps (exploratory)", ""]
    lines += ["| point | seeds | alone % | DML, difference | OKDDip over the others, difference |"]
    lines += ["|---|---:|---:|---:|---:|"]
    gaps: dict[str, dict[str, Estimate]] = {"DML": {}, "OKDDip over the others": {}}
    for point, name in POINTS.items():
        base = "alone" if point.startswith("students") else f"{point}alone"
        rows = (base, f"{point}dml", f"{point}okddip_others")
        stage = Stage("regime", rows)
        if not stage.seeds:
            continue
        alone = stage.values(base)
        cells = []
        for method, row in zip(gaps, rows[1:], strict=True):
            gaps[method][name] = found = gap(stage.values(row), alone)
            cells.append(seeds_cell(found))
        lines.append(f"| {name} | {len(stage.seeds)} | {number(estimate(alone).mean)} | {' | '.join(cells)} |")
    lines += ["", "In brackets the difference on each seed. Few seeds a point: a map, not a test."]
    return lines, gaps


def over_all(stages: Sequence[Stage]) -> Iterator[str]:
    """The named comparisons over all data on which the network alone was tuned, each counting the same (rliable)."""
    done = [stage for stage in stages if len(stage.seeds) > 1 and stage.name not in UNTUNED]
    names = ", ".join(DESIGNS[stage.name][0] for stage in done)
    yield f"\n## Over all data with a tuned network (exploratory): {names}\n"
    yield "| row | runs | against the network alone | one student errs less than one network alone, % of pairs |"
    yield "|---|---:|---:|---:|"
    for row in NAMED:
        mean = across_tasks({s.name: list(zip(s.values(row), s.alone(), strict=True)) for s in done})
        student = 3 if row.startswith("okddip") else 0  # the leader, or any one
        one = {s.name: list(zip(s.students(row)[student], s.students("ind")[0], strict=True)) for s in done}
        one = across_tasks(one)
        found = f"{number(mean.difference, sign=True)} ({span(mean.difference_low, mean.difference_high)})"
        share = f"{number(100 * one.improves, 0)} ({span(100 * one.improves_low, 100 * one.improves_high, 0)})"
        yield f"| {row} | {mean.pairs} | {found} | {share} |"
    yield "\nIntervals: stratified bootstrap over seeds, so they describe other seeds on these data. Pairs: OKDDip's"
    yield "leader, or one student of DML and KDCL, against one network alone of any seed."


def main(out: Path = HERE) -> None:
    """Write analysis.md and the figures of what is there into `out`."""
    stages = [Stage(name, rows) for name, (_, rows) in DESIGNS.items()]
    lines = ["# Analysis of the runs", "", "Written by analyse.py; what it means is in [primary.md](../primary.md)."]
    for stage in stages:
        lines += design(stage)
    table, gaps = regime()
    lines += [*longer(), *untuned(), *branches(), *over_all(stages), *same_money_lines(), *table, *short()]
    (out / "analysis.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    drawn = {f"{DESIGNS[s.name][0]}, {len(s.seeds)} seeds": to_alone(s) for s in stages if len(s.seeds) > 1}
    figures.panels(drawn, MARGIN, out / "differences.svg")
    figures.beside(gaps, out / "regime.svg")
    draw_first(out)


if __name__ == "__main__":
    main()
