"""One number for several tasks (a network on a data set), as Agarwal et al. (NeurIPS 2021, "Deep reinforcement
learning at the edge of the statistical precipice") advise for few seeds: pure functions on numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codistill.reports.statistics import CONFIDENCE

__all__ = ["DRAWS", "Across", "across_tasks"]

DRAWS = 10_000
"""Bootstrap samples behind an interval."""

Pairs = Sequence[tuple[float, float]]
"""A method's error and that of what it is compared with, by seed."""


@dataclass(frozen=True)
class Across:
    """A method against something else over several tasks; each task counts the same.

    Attributes:
        tasks: their number.
        pairs: seeds of all tasks.
        difference: mean over the tasks of the mean difference in error; below 0 where the method is better.
        difference_low: lower end of its 95 % interval.
        difference_high: upper end.
        improves: chance that a run of the method has a lower error than a run of the other with another seed, on a
            task drawn at random; a tie counts half.
        improves_low: lower end of its 95 % interval.
        improves_high: upper end.
    """

    tasks: int
    pairs: int
    difference: float
    difference_low: float
    difference_high: float
    improves: float
    improves_low: float
    improves_high: float


def across_tasks(by_task: Mapping[str, Pairs]) -> Across:
    """Compare errors over tasks.

    Intervals are those of a stratified bootstrap: seeds are drawn again with replacement, within each task. So they
    describe other seeds on these tasks, not other tasks. The draws are the same each time.

    Raises:
        ValueError: there is no task, or one without a pair.
    """
    if not by_task or not all(by_task.values()):
        raise ValueError("every task needs at least one pair, and there must be a task.")
    tasks = [np.asarray(pairs, dtype=np.float64) for pairs in by_task.values()]
    generator = np.random.default_rng(0)
    drawn = [pairs[generator.integers(len(pairs), size=(DRAWS, len(pairs)))] for pairs in tasks]
    difference, improves = (_mean(score, tasks, drawn) for score in (_difference, _improves))
    return Across(len(tasks), sum(map(len, tasks)), *difference, *improves)


def _mean(
    score: Callable[[np.ndarray], np.ndarray], tasks: Sequence[np.ndarray], drawn: Sequence[np.ndarray]
) -> tuple[float, float, float]:
    """Return the mean of a score over the tasks, and its interval from the samples drawn."""
    found = float(np.mean([score(pairs) for pairs in tasks]))
    of_samples = np.mean([score(pairs) for pairs in drawn], axis=0)
    low, high = np.quantile(of_samples, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return found, float(low), float(high)


def _difference(pairs: np.ndarray) -> np.ndarray:
    """[..., seeds, 2] -> [...]."""
    return (pairs[..., 0] - pairs[..., 1]).mean(-1)


def _improves(pairs: np.ndarray) -> np.ndarray:
    """[..., seeds, 2] -> [...]: each run against each of the other's runs."""
    ours, theirs = pairs[..., 0, None], pairs[..., None, :, 1]
    return ((ours < theirs) + 0.5 * (ours == theirs)).mean((-1, -2))
