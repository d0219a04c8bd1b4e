"""Means over seeds, their confidence intervals, and paired comparisons: pure functions on numbers.

The t distribution is taken from scipy.special, since importing scipy.stats takes a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, nctdtrinc, stdtr, stdtrit

__all__ = [
    "CONFIDENCE", "MOST_SEEDS", "POWER", "SIGNIFICANT", "Estimate", "Paired", "detectable", "equivalence", "estimate",
    "holm", "paired", "seeds_needed", "within",
]  # fmt: skip

CONFIDENCE = 0.95

SIGNIFICANT = 0.05
"""A corrected p-value below this is significant."""

POWER = 0.8
"""The chance with which a test should find a difference that is there."""

MOST_SEEDS = 1000
"""Beyond this many seeds it does not matter how many it would take."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        values: one number per seed.
        mean: their mean.
        std: their standard deviation (n - 1 in the denominator); None with one seed.
        low: lower end of the 95 % Student-t confidence interval of the mean; None with one seed.
        high: its upper end.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)


@dataclass(frozen=True)
class Paired:
    """Differences on the same seeds.

    Attributes:
        difference: the estimate of value - baseline.
        p: two-sided p-value of the paired t-test; None with one pair, or where all differences are equal.
        effect: Cohen's d_z, the mean difference in standard deviations of the differences; None as `p`.
    """

    difference: Estimate
    p: float | None
    effect: float | None


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return mean, standard deviation and Student-t confidence interval of at least one value."""
    array = np.asarray(values, dtype=np.float64)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Estimate(tuple(map(float, array)), mean, None, None, None)
    std = float(array.std(ddof=1))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * std / math.sqrt(n)
    return Estimate(tuple(map(float, array)), mean, std, mean - half, mean + half)


def paired(values: Sequence[float], baseline: Sequence[float]) -> Paired:
    """Compare values with a baseline's, pair by pair (same seed), by the two-sided paired t-test."""
    differences = np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    result = estimate(differences.tolist())
    # Equal differences still spread by rounding, about 1e-16; a test on that would find p = 1e-30.
    noise = 1e-12 * max(1.0, float(np.abs(np.asarray([values, baseline])).max()))
    if result.std is None or not result.std > noise:
        return Paired(result, None, None)
    t = result.mean / (result.std / math.sqrt(result.n))
    return Paired(result, 2 * float(stdtr(result.n - 1, -abs(t))), result.mean / result.std)


def equivalence(found: Paired, margin: float) -> float | None:
    """Return the p-value of equivalence by two one-sided paired t-tests (Schuirmann 1987).

    Args:
        found: the differences.
        margin: how large a difference, either way, counts as none; above 0.

    Returns:
        The larger of the two p-values; None where `found` has no test.
    """
    gap = found.difference
    if found.p is None or gap.std is None:
        return None
    return float(stdtr(gap.n - 1, (abs(gap.mean) - margin) / (gap.std / math.sqrt(gap.n))))


def within(found: Paired) -> float | None:
    """Return the smallest margin for which `equivalence` is below SIGNIFICANT; None where `found` has no test."""
    gap = found.difference
    if found.p is None or gap.std is None:
        return None
    return abs(gap.mean) + float(stdtrit(gap.n - 1, 1 - SIGNIFICANT)) * gap.std / math.sqrt(gap.n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's step-down adjusted p-values in the given order; None (no test) stays None and is not counted."""
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = largest
    return adjusted


def detectable(std: float, n: int, level: float = SIGNIFICANT) -> float:
    """Return the mean difference that the two-sided paired t-test of n >= 2 pairs finds with a chance of POWER.

    Args:
        std: standard deviation of the differences.
        n: number of pairs.
        level: the p-value below which a difference counts as found.
    """
    # The chance to err on the other side is below 1e-6 here, and is left out.
    return float(nctdtrinc(n - 1, 1 - POWER, stdtrit(n - 1, 1 - level / 2))) * std / math.sqrt(n)


def seeds_needed(effect: float, level: float = SIGNIFICANT) -> int | None:
    """Return the fewest pairs with which `detectable` would be the mean difference of this effect size.

    Args:
        effect: d_z, the mean difference in standard deviations of the differences; its sign does not matter.
        level: as in `detectable`.

    Returns:
        2 or more; None if it takes more than MOST_SEEDS.
    """
    for n in range(2, MOST_SEEDS + 1):
        if 1 - nctdtr(n - 1, abs(effect) * math.sqrt(n), stdtrit(n - 1, 1 - level / 2)) >= POWER:
            return n
    return None
