"""Sections of analyse.py on the exploratory plans: what else the money buys, longer runs, settings, and branches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cells import gap, gap_cell, head, seeds_cell
from stages import CONTROLS, LONG, NAMED, OTHERS, POINTS, ROWS, Stage, on_same_seeds

from codistill.reports.numbers import mean_std, number
from codistill.reports.statistics import estimate


def best_of_four(stage: Stage) -> list[float]:
    """The test error of the student of `ind` that is best on validation, by seed."""
    found = []
    for seed in stage.seeds:
        run = stage.runs["ind", seed]
        chosen = min(range(4), key=lambda i: float(run[f"validation_error_{i}"]))
        found.append(float(run[f"test_error_{chosen}"]))
    return found


def begun(name: str, rows: Iterable[str]) -> Stage:
    """A plan with those of its rows that are finished: on as many seeds as any other."""
    seeds = {row: len(Stage(name, (row,)).seeds) for row in rows}
    return Stage(name, [row for row, n in seeds.items() if n and n == max(seeds.values())])


def same_money() -> tuple[Stage, ...]:
    """The primary design and what else a user would try for the same money, on the seeds that both have."""
    return on_same_seeds(Stage("primary"), begun("equal_compute", OTHERS))


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
    if "kd" in found:
        found["kd"] = (stage.values("kd"), (stage.work("kd") - 3 * one) / one)
    titles = ["row", "test error %", "arithmetic, × alone", "minus alone", *(f"{m} minus it" for m in NAMED)]
    yield head(titles)
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
    stage, long = on_same_seeds(Stage("finetune"), begun("finetune_long", LONG))
    yield f"\n## From trained weights, for longer than 60 epochs (exploratory): {len(long.seeds)} seeds"
    if len(long.seeds) < 2:
        return
    found = {"alone": (stage.alone(), 1.0)}
    one = stage.work("baseline")
    for of, rows in ((stage, NAMED), (long, long.rows)):
        found |= {row: (of.values(row), of.work(row) / one) for row in rows}
    baselines = [row for row in found if row.startswith("alone")]
    yield head(["row", "arithmetic, × alone", "test error %", *(f"minus {name}" for name in baselines)])
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


def short() -> Iterator[str]:
    """Runs below 1,000 updates: DML with the rate it was tuned to, and with that of the network alone."""
    yield "\n## Short runs: is it DML's rate? (exploratory)"
    titles = ["point", "seeds", "alone %", "DML, difference", "DML with the network's rate, difference"]
    titles += ["the second minus the first", "DML, difference, with the seeds of plan regime"]
    yield head(titles)
    for point in ("images1000-", "epochs15-"):
        stage = Stage("short", [f"{point}{row}" for row in ("alone", "dml", "dml_lr0.2")])
        if stage.seeds:
            alone, dml, own_rate = (stage.values(row) for row in stage.rows)
            earlier = Stage("regime", stage.rows[:2])
            both = gap(earlier.values(stage.rows[1]) + dml, earlier.values(stage.rows[0]) + alone)
            cells = [POINTS[point], str(len(alone)), number(estimate(alone).mean)]
            cells += [seeds_cell(gap(*pair)) for pair in ((dml, alone), (own_rate, alone), (own_rate, dml))]
            yield f"| {' | '.join(cells)} | {gap_cell(both)} |"
    yield "\nIn brackets the difference on each seed; in the last column the 95 % interval over both plans."
