"""Methods over several networks and data sets: each figure by hand or by a slow reference, and which numbers count."""

from __future__ import annotations

import random

import pytest

from codistill.reports.across_tasks import across_tasks
from codistill.studies.across import standings
from codistill.studies.results import Number

BOTH = {"one": [(1.0, 2.0), (2.0, 4.0)], "two": [(5.0, 4.0), (4.0, 4.0), (3.0, 4.0), (4.0, 4.0)]}


def test_difference_and_chance_by_hand():
    found = across_tasks(BOTH)
    assert (found.tasks, found.pairs) == (2, 6)
    # -1.5 on the first task, 0 on the second, which counts the same though it has twice the seeds.
    assert found.difference == pytest.approx(-0.75)
    # On the first task 1 < 2, 1 < 4, 2 = 2, 2 < 4; on the second one run is lower, two are equal and one is higher.
    assert found.improves == pytest.approx((3.5 / 4 + 0.5) / 2)


def test_intervals_are_those_of_seeds_drawn_again_within_each_task():
    draw, means, chances = random.Random(1), [], []
    for _ in range(4000):
        drawn = [[draw.choice(pairs) for _ in pairs] for pairs in BOTH.values()]
        means.append(sum(sum(a - b for a, b in pairs) / len(pairs) for pairs in drawn) / 2)
        wins = [
            sum(1.0 if a < b else 0.5 * (a == b) for a, _ in pairs for _, b in pairs) / len(pairs) ** 2
            for pairs in drawn
        ]
        chances.append(sum(wins) / 2)
    found = across_tasks(BOTH)
    for values, low, high in (
        (means, found.difference_low, found.difference_high),
        (chances, found.improves_low, found.improves_high),
    ):
        values.sort()
        assert (low, high) == pytest.approx((values[100], values[-100]), abs=0.05)
    assert across_tasks(BOTH) == found


@pytest.mark.parametrize("tasks", [{}, {"one": []}, {"one": [(1.0, 2.0)], "two": []}])
def test_a_task_without_runs_is_refused(tasks):
    with pytest.raises(ValueError, match="at least one pair"):
        across_tasks(tasks)


def number(metric, values, source):
    return Number("row", "column", metric, dict(enumerate(values)), None, None, None, source=source)


def test_columns_are_methods_for_okddip_and_rows_for_kdcl():
    okddip = {
        ("okddip/table2", row, column): number("error", [start, start + 1], (row, column))
        for row in ("resnet32", "vgg16")
        for column, start in (("baseline", 10.0), ("dml", 9.0))
    }
    kdcl = {
        ("kdcl/table7", row, column): number("accuracy", [start, start + 1], (row, column))
        for column in ("resnet32", "wrn16_2")
        for row, start in (("vanilla", 90.0), ("dml", 91.0))
    }
    (first,), (second,) = standings("okddip", okddip), standings("kdcl", kdcl)
    assert first.method == second.method == "dml"
    assert first.tasks == ("resnet32, table2", "vgg16, table2")
    assert first.across.difference == second.across.difference == pytest.approx(-1.0)


def test_one_measurement_in_two_tables_counts_once_and_one_task_is_no_standing():
    shared = {
        (f"okddip/{table}", "resnet32", column): number("error", [start, start + 1], ("digits", column))
        for table in ("table1", "table2")
        for column, start in (("baseline", 10.0), ("dml", 9.0))
    }
    assert standings("okddip", shared) == []


def test_tables_with_another_base_do_not_count():
    ablations = {
        ("okddip/table5", row, column): number("error", [start], (row, column))
        for row in ("resnet32", "vgg16")
        for column, start in (("baseline", 10.0), ("random", 9.0))
    }
    assert standings("okddip", ablations) == []
