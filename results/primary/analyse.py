"""Analyse runs.csv and runs-gpu.csv: python results/primary/analyse.py; writes analysis.md and three figures.

The rows of the primary design, the named comparisons (paired t, Holm, two one-sided tests), secondary comparators and
power; then the exploratory plans as far as they have runs. A seed counts only if all the rows of its plan are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import figures
from stages import (
    CONTROLS,
    DESIGNS,
    HERE,
    LABELS,
    LONG,
    MARGIN,
    NAMED,
    OTHERS,
    POINTS,
    ROWS,
    SEEDS,
    TESTS,
    UNTUNED,
    Stage,
    on_same_seeds,
)

from codistill.reports.across_tasks import across_tasks
from codistill.reports.numbers import interval, mean_std, number, p_value, span
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
    yield f"\nPooled SD of the named differences: {number(pooled)} points. Found four times in five: a difference of"
    yield f"{least[0]} points at 0.05, of {least[1]} at 0.0125."


def other_comparators(stage: Stage, enough: bool) -> Iterator[str]:
    """The same comparisons with the students of the same initial weights, and with one network alone."""
    alone, of, last = stage.alone(), {row: stage.values(row) for row in NAMED}, stage.students("ind")[3]
    paired_weights = {row: (of[row], last if row.startswith("okddip") else alone) for row in NAMED}
    yield from family("Secondary: against the students of ind with the same initial weights", paired_weights, enough)
    single = {row: (of[row], stage.values("baseline")) for row in NAMED}
    yield from family("Secondary: against row baseline, one network", single, enough)


def exploratory(stage: Stage) -> Iterator[str]:
    """Methods against each other, and what all four students of a group say together; uncorrected intervals."""
    pairs = [("okddip_self", "okddip_others"), ("okddip_self", "dml"), ("okddip_others", "dml")]
    pairs += [("okddip_others", "kdcl"), ("dml", "kdcl")]
    yield "\n### Exploratory: methods against each other\n\n| row | against | difference |\n|---|---|---:|"
    for a, b in pairs:
        yield f"| {a} | {b} | {gap_cell(gap(stage.values(a), stage.values(b)))} |"
    yield "\n### Exploratory: each student, test error in %\n\n| row | student 0 | 1 | 2 | 3 |"
    yield "|---|---:|---:|---:|---:|"
    for row in stage.rows[1:]:
        yield f"| {row} | {' | '.join(mean_std(estimate(student)) for student in stage.students(row))} |"
    yield "\n### Exploratory: all four students together, and the negative log-likelihood (NLL) of the scored student\n"
    yield "| row | all together, minus the network alone | minus four of ind together | NLL, nats | minus ind, nats |"
    yield "|---|---:|---:|---:|---:|"
    nll, vote = stage.values("ind", "test_nll"), stage.values("ind", "ensemble_test_error")
    for row in stage.rows[1:]:
        own, together = stage.values(row, "test_nll"), stage.values(row, "ensemble_test_error")
        cells = [gap_cell(gap(together, stage.alone())), gap_cell(gap(together, vote)) if row != "ind" else "–"]
        cells += [mean_std(estimate(own), 3), gap_cell(gap(own, nll), 3) if row != "ind" else "–"]
        yield f"| {row} | {' | '.join(cells)} |"


def gap(values: list[float], others: list[float]) -> Estimate:
    """The differences, seed by seed."""
    return paired(values, others).difference


def gap_cell(found: Estimate, digits: int = 2) -> str:
    """A difference with its interval, for a table."""
    return f"{number(found.mean, digits, sign=True)} ({interval(found, digits)})"


def best_of_four(stage: Stage) -> list[float]:
    """The test error of the student of `ind` that is best on validation, by seed."""
    found = []
    for seed in stage.seeds:
        run = stage.runs["ind", seed]
        chosen = min(range(4), key=lambda i: float(run[f"validation_error_{i}"]))
        found.append(float(run[f"test_error_{chosen}"]))
    return found


def same_money() -> tuple[Stage, ...]:
    """The primary design and what else a user would try for the same money, on the seeds that both have."""
    return on_same_seeds(Stage("primary"), Stage("equal_compute", tuple(OTHERS)))


def same_money_lines() -> Iterator[str]:
    """What else the same money buys, against the network alone, and every method against that."""
    primary, stage = same_money()
    yield f"\n## What else the money buys (exploratory): {len(stage.seeds)} seeds"
    if len(stage.seeds) < 2:
        return
    found = {"alone": (primary.alone(), 1.0), "best of four on validation": (best_of_four(primary), 4.0)}
    one = primary.work("baseline")
    found |= {row: (stage.values(row), stage.work(row) / one) for row in stage.rows}
    # Four students were trained beside each other, none of which learns from another: the price is that of one.
    found["kd"] = (stage.values("kd"), (stage.work("kd") - 3 * one) / one)
    titles = ["row", "test error %", "arithmetic, × alone", "minus alone", *(f"{m} minus it" for m in NAMED)]
    yield f"\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}"
    for row, (values, work) in found.items():
        cells = [
            mean_std(estimate(values)),
            number(work, 1),
            "–" if row == "alone" else gap_cell(gap(values, primary.alone())),
            *(gap_cell(gap(primary.values(m), values)) for m in NAMED),
        ]
        yield f"| {row} | {' | '.join(cells)} |"
    yield "\nDifferences in points with uncorrected 95 % intervals; below 0 the first named is better."
    teacher = Stage("teacher", ("resnet14_tiny",))
    yield f"The frozen teacher of kd alone: {mean_std(estimate(teacher.values('resnet14_tiny')))} %."


def longer() -> Iterator[str]:
    """From trained weights for longer: one network alone, and a group beside it."""
    begun = [row for row in LONG if Stage("finetune_long", (row,)).seeds]
    stage, long = on_same_seeds(Stage("finetune"), Stage("finetune_long", begun))
    yield f"\n## From trained weights, for longer than 60 epochs (exploratory): {len(long.seeds)} seeds"
    if len(long.seeds) < 2:
        return
    found = {"alone": (stage.alone(), 1.0)}
    one = stage.work("baseline")
    for of, rows in ((stage, NAMED), (long, long.rows)):
        found |= {row: (of.values(row), of.work(row) / one) for row in rows}
    baselines = [row for row in found if row.startswith("alone")]
    yield f"\n| row | arithmetic, × alone | test error % | {' | '.join(f'minus {name}' for name in baselines)} |"
    yield f"|---|{'---:|' * (2 + len(baselines))}"
    for row, (values, work) in found.items():
        cells = [gap_cell(gap(values, found[name][0])) if name != row else "–" for name in baselines]
        yield f"| {row} | {number(work, 1)} | {mean_std(estimate(values))} | {' | '.join(cells)} |"


def branches() -> Iterator[str]:
    """OKDDip over the others as branches, by where they begin, beside the same method as networks."""
    primary, stage = on_same_seeds(Stage("primary"), Stage("branches", ("layer3", "layer2")))
    yield f"\n## OKDDip over the others as branches, by where they begin (exploratory): {len(stage.seeds)} seeds"
    if len(stage.seeds) < 2:
        return
    yield "\n| row | test error % | ensemble % | arithmetic, × alone | against the network alone |"
    yield "|---|---:|---:|---:|---:|"
    one, alone = primary.work("baseline"), primary.alone()
    for name, of, row in (
        ("layer3", stage, "layer3"),
        ("layer2", stage, "layer2"),
        ("networks", primary, "okddip_others"),
    ):
        cells = [mean_std(estimate(of.values(row, column))) for column in ("test_error", "ensemble_test_error")]
        cells += [number(of.work(row) / one, 1), gap_cell(gap(of.values(row), alone))]
        yield f"| {name} | {' | '.join(cells)} |"
    yield f"\nlayer2 minus layer3: {gap_cell(gap(stage.values('layer2'), stage.values('layer3')))}."


def untuned() -> Iterator[str]:
    """On clothes, where nothing was tuned: the network alone with the settings that methods have from the glyphs."""
    stage = Stage("other_data", (*ROWS[1:], *CONTROLS))
    yield f"\n## Fashion-MNIST, the network alone with settings of the methods (exploratory): {len(stage.seeds)} seeds"
    if len(stage.seeds) < 2:
        return
    yield "\n| row | test error % | against the network alone | method | method minus the row |"
    yield "|---|---:|---:|---|---:|"
    for row, methods in CONTROLS.items():
        values = stage.values(row)
        for method in methods:
            cells = [mean_std(estimate(values)), gap_cell(gap(values, stage.alone())), method]
            yield f"| {row} | {' | '.join(cells)} | {gap_cell(gap(stage.values(method), values))} |"


def draw_first(out: Path) -> None:
    """Write the README's figure: the named comparisons, and what else the same money buys as far as it is known."""
    whole, (primary, stage) = Stage("primary"), same_money()
    others = {"best of four alone, by validation": gap(best_of_four(whole), whole.alone())}
    if len(stage.seeds) > 1:
        others |= {label: gap(stage.values(row), primary.alone()) for row, label in OTHERS.items()}
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
            each = ", ".join(number(value, sign=True) for value in found.values)
            cells.append(f"{number(found.mean, sign=True)} ({each})")
        lines.append(f"| {name} | {len(stage.seeds)} | {number(estimate(alone).mean)} | {' | '.join(cells)} |")
    lines += ["", "In brackets the difference on each seed. One to three seeds a point: a map, not a test."]
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
    lines += [*longer(), *untuned(), *branches(), *over_all(stages), *same_money_lines(), *table]
    (out / "analysis.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    drawn = {f"{DESIGNS[s.name][0]}, {len(s.seeds)} seeds": to_alone(s) for s in stages if len(s.seeds) > 1}
    figures.panels(drawn, MARGIN, out / "differences.svg")
    figures.beside(gaps, out / "regime.svg")
    draw_first(out)


if __name__ == "__main__":
    main()
