"""Time two or more calls in turns and take the ratio of their times: a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["CLOCKS", "Ratio", "Timed", "race", "ratio"]

Timed = Callable[[], object]
"""What the clock measures: one call without arguments."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""wall for an idle machine; cpu (all threads of this process) for a busy one."""


@dataclass(frozen=True)
class Ratio:
    """One line of a suite.

    Attributes:
        suite: name of the suite.
        what: what is measured.
        above: name of the numerator.
        below: name of the denominator.
        median: median over the turns of numerator ÷ denominator, both from the same turn.
        least: the smallest of these ratios.
        most: the largest of these ratios.
        above_ms: median of the numerator, in milliseconds (in MiB for memory).
        below_ms: median of the denominator, in the same unit.
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


def race(rivals: Mapping[str, Timed], turns: int, calls: int = 1, clock: str = "wall") -> dict[str, list[float]]:
    """Seconds of every rival in every turn: the mean over `calls` calls, after one call of each to warm up."""
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for rival in rivals.values():
        rival()
    for _ in range(turns):
        for name, rival in rivals.items():
            start = now()
            for _ in range(calls):
                rival()
            times[name].append((now() - start) / calls)
    return times


def ratio(times: Mapping[str, list[float]], above: str, below: str, suite: str, what: str, goal: str = "") -> Ratio:
    """Return the ratio of two rivals, from the times that `race` returned."""
    of_turns = [a / b for a, b in zip(times[above], times[below], strict=True)]
    above_ms, below_ms = (1e3 * statistics.median(times[name]) for name in (above, below))
    median, least, most = statistics.median(of_turns), min(of_turns), max(of_turns)
    return Ratio(suite, what, above, below, median, least, most, above_ms, below_ms, goal)
