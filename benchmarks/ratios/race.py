"""Two or more things that take turns, and the ratio of their times: a noisy machine is noisy for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["CLOCKS", "Ratio", "race", "ratio"]

Step = Callable[[], object]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""wall for an idle machine; cpu (of this process, all threads) where others run beside it."""


@dataclass(frozen=True)
class Ratio:
    """One line of a suite.

    Attributes:
        suite: its suite.
        what: what is measured.
        above: name of the numerator.
        below: name of the denominator.
        median: median over the turns of numerator ÷ denominator, each pair from one turn.
        least: the smallest of them.
        most: the largest.
        above_ms: median of the numerator in milliseconds; of bytes, MiB.
        below_ms: likewise.
        goal: "≤ 1.05", or empty.
    """

    suite: str
    what: str
    above: str
    below: str
    median: float
    least: float
    most: float
    above_ms: float
    below_ms: float
    goal: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the goal; None without one."""
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return self.median <= float(number) if sign == "≤" else self.median >= float(number)


def race(steps: Mapping[str, Step], turns: int, calls: int = 1, clock: str = "wall") -> dict[str, list[float]]:
    """Seconds of every step in every turn, the mean of `calls` calls, after one call of each to warm up."""
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(turns):
        for name, step in steps.items():
            start = now()
            for _ in range(calls):
                step()
            times[name].append((now() - start) / calls)
    return times


def ratio(times: Mapping[str, list[float]], above: str, below: str, suite: str, what: str, goal: str = "") -> Ratio:
    """The ratio of two that raced."""
    of_turns = [a / b for a, b in zip(times[above], times[below], strict=True)]
    above_ms, below_ms = (1e3 * statistics.median(times[name]) for name in (above, below))
    median, least, most = statistics.median(of_turns), min(of_turns), max(of_turns)
    return Ratio(suite, what, above, below, median, least, most, above_ms, below_ms, goal)
