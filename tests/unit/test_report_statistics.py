"""Intervals and tests agree with hand calculation and with SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from codistill.reports.statistics import detectable, equivalence, estimate, holm, paired, seeds_needed, within


def test_mean_and_deviation_of_three_seeds_by_hand() -> None:
    result = estimate([2.0, 3.0, 7.0])
    assert result.mean == pytest.approx(4.0)
    assert result.std == pytest.approx(7**0.5)  # squares 4 + 1 + 9 over n - 1 = 2
    # t(0.975, 2) = 4.302653, half width 4.302653 · sqrt(7) / sqrt(3)
    assert result.low == pytest.approx(4 - 6.572410, abs=1e-5)
    assert result.high == pytest.approx(4 + 6.572410, abs=1e-5)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(5, 2, 7).tolist()
    low, high = stats.t.interval(0.95, 6, np.mean(values), stats.sem(values))
    result = estimate(values)
    assert (result.low, result.high) == pytest.approx((low, high))


def test_one_seed_has_neither_deviation_nor_interval() -> None:
    result = estimate([3.5])
    assert (result.mean, result.std, result.low, result.high, result.n) == (3.5, None, None, None, 1)


def test_the_paired_test_is_scipys_and_the_effect_is_d_z() -> None:
    generator = np.random.default_rng(5)
    base = generator.normal(5, 1, 6)
    values = base - 0.4 + generator.normal(0, 0.3, 6)
    result = paired(values.tolist(), base.tolist())
    expected = stats.ttest_rel(values, base)
    interval = expected.confidence_interval(0.95)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.difference.low, result.difference.high) == pytest.approx((interval.low, interval.high))
    assert result.effect == pytest.approx((values - base).mean() / (values - base).std(ddof=1))


def test_equal_differences_give_no_p_value_despite_rounding() -> None:
    result = paired([3.1, 4.1, 5.3], [3.3, 4.3, 5.5])
    assert result.difference.mean == pytest.approx(-0.2)
    assert (result.p, result.effect) == (None, None)


def test_one_pair_gives_a_difference_but_no_test() -> None:
    result = paired([3.0], [3.5])
    assert (result.difference.mean, result.p, result.effect) == (-0.5, None, None)


@pytest.mark.parametrize("mean", [0.1, -0.1, 0.5])
def test_equivalence_is_the_worse_of_scipys_two_one_sided_tests(mean: float) -> None:
    values = mean + np.random.default_rng(4).normal(0, 0.2, 8)
    sides = (
        stats.ttest_1samp(values, -0.3, alternative="greater").pvalue,
        stats.ttest_1samp(values, 0.3, alternative="less").pvalue,
    )
    assert equivalence(paired(values.tolist(), [0.0] * 8), 0.3) == pytest.approx(max(sides))


def test_within_is_the_margin_at_which_equivalence_just_holds() -> None:
    found = paired([0.1, -0.2, 0.4, 0.3], [0.0] * 4)
    margin = within(found)
    assert margin is not None
    assert equivalence(found, margin) == pytest.approx(0.05)
    # The farther end of the 90 % interval.
    ends = stats.t.interval(0.9, 3, 0.15, stats.sem(found.difference.values))
    assert margin == pytest.approx(max(map(abs, ends)))


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.1, 0.1]])
def test_without_spread_equivalence_is_not_tested(values: list[float]) -> None:
    found = paired(values, [0.0] * len(values))
    assert (equivalence(found, 0.3), within(found)) == (None, None)


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made non-decreasing.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_leaves_out_rows_without_a_test_and_stops_at_one() -> None:
    assert holm([None, 0.6, 0.7]) == [None, 1.0, 1.0]
    assert holm([None, 0.03]) == [None, 0.03]


@pytest.mark.parametrize(("n", "level"), [(2, 0.05), (3, 0.05 / 6), (5, 0.05), (10, 0.01), (30, 0.05)])
def test_the_detectable_difference_has_a_power_of_80_percent_by_scipys_noncentral_t(n: int, level: float) -> None:
    found = detectable(1.7, n, level)
    critical = stats.t.isf(level / 2, n - 1)
    assert stats.nct.cdf(critical, n - 1, found / 1.7 * n**0.5) == pytest.approx(0.2, abs=1e-4)


def test_seeds_needed_are_the_fewest_with_that_power() -> None:
    # The textbook's sample size of a paired t-test for a medium effect, d_z = 0.5, at 0.05 and 80 %.
    assert seeds_needed(0.5) == 34
    assert detectable(1.0, 34) <= 0.5 < detectable(1.0, 33)
    assert seeds_needed(-0.5) == 34
    assert seeds_needed(0.5, 0.05 / 6) > 34
    assert seeds_needed(0.0) is None
