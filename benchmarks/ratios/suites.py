"""The suites: what each of them compares, and the goal of each ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch

from codistill.errors import UserError, unknown
from others.suite import others_suite
from ratios.memory import peak_bytes, resident_bytes
from ratios.race import Ratio, race, ratio
from ratios.setting import Setting
from ratios.steps import (
    LARGE,
    SMALL,
    TINY,
    bare_convolutions,
    bare_predictions,
    chosen_executor,
    evaluation,
    training_step,
)

__all__ = ["SUITES", "run_suites"]

METHODS = ("okddip", "kdcl_naive", "kdcl_linear", "kdcl_minlogit", "kdcl_general")
MANY_STEPS = 10_000


def methods_suite(setting: Setting) -> Iterator[Ratio]:
    """A training step with distillation against one of independent networks."""
    for size, goal, calls in ((LARGE, "≤ 1.05", 1), (TINY, "≤ 1.15", 10)):
        steps = {name: training_step(size, 4, name) for name in ("ind", *METHODS)}
        times = race(steps, setting.turns, calls, setting.clock)
        for name in METHODS:
            yield ratio(times, name, "ind", "methods", f"a step of four {size.name}", goal)


def floor_suite(setting: Setting) -> Iterator[Ratio]:
    """A step of one network against its convolutions alone, in the layout of the step and in the planar one."""
    bare = {"convolutions": True, "planar convolutions": False}
    steps = {name: bare_convolutions(LARGE, layout) for name, layout in bare.items()}
    times = race({"step": training_step(LARGE, 1, "ind"), **steps}, setting.turns, 1, setting.clock)
    for name in bare:
        yield ratio(times, "step", name, "floor", f"one {LARGE.name}", "≤ 1.25")


def executors_suite(setting: Setting) -> Iterator[Ratio]:
    """Executors against `loop`: time, the choice of `auto`, and the memory of `recompute`."""
    for size, peers, calls, goal in ((TINY, 4, 10, "≥ 2"), (TINY, 8, 10, "≥ 2"), (SMALL, 4, 2, "")):
        steps = {name: training_step(size, peers, executor=name) for name in ("loop", "fused")}
        times = race(steps, setting.turns, calls, setting.clock)
        yield ratio(times, "loop", "fused", "executors", f"a step of {peers} {size.name}", goal)
        best, chosen = min(times, key=lambda name: statistics.median(times[name])), chosen_executor(size, peers)
        what = f"a step of {peers} {size.name}, auto's choice against the best"
        yield ratio(times, chosen, best, "executors", what, "≤ 1.05")
    steps = {name: training_step(LARGE, 8, executor=name) for name in ("loop", "recompute")}
    times = race(steps, max(setting.turns // 2, 1), 1, setting.clock)
    yield ratio(times, "recompute", "loop", "executors", f"a step of eight {LARGE.name}", "≤ 1.45")
    peak, one = peak_bytes(steps["recompute"]), peak_bytes(training_step(LARGE, 1, "baseline"))
    yield _of_bytes(peak, one, "recompute, eight peers", "loop, one peer", "executors", "peak of activations", "≤ 1.5")


def evaluation_suite(setting: Setting) -> Iterator[Ratio]:
    """An evaluation with every score against its forward passes alone."""
    for size, batches in ((LARGE, 4), (TINY, 4)):
        steps = {"evaluation": evaluation(size, 4, batches), "forward": bare_predictions(size, 4, batches)}
        times = race(steps, setting.turns, 1, setting.clock)
        yield ratio(times, "evaluation", "forward", "evaluation", f"four {size.name}", "≤ 1.1")


def growth_suite(setting: Setting) -> Iterator[Ratio]:
    """Time per peer and per image as their number grows, and memory over many steps."""
    steps = {str(peers): training_step(TINY, peers) for peers in (3, 9)}
    times = race(steps, setting.turns, 10, setting.clock)
    each = {name: [seconds / int(name) for seconds in of_turns] for name, of_turns in times.items()}
    yield ratio(each, "9", "3", "growth", f"time per peer, {TINY.name}", "≤ 1.1")
    steps = {str(batch): training_step(LARGE, 1, "ind", batch=batch) for batch in (64, 256)}
    times = race(steps, setting.turns, 1, setting.clock)
    each = {name: [seconds / int(name) for seconds in of_turns] for name, of_turns in times.items()}
    yield ratio(each, "256", "64", "growth", "time per image, one ResNet-32, by batch size", "≤ 1.1")
    step = training_step(TINY, 3, batch=8)
    for _ in range(MANY_STEPS // 10):
        step()
    early = resident_bytes()
    for _ in range(MANY_STEPS - MANY_STEPS // 10):
        step()
    names = (f"after {MANY_STEPS:,} steps", f"after {MANY_STEPS // 10:,}")
    yield _of_bytes(resident_bytes(), early, *names, "growth", "resident memory of the process", "≤ 1.01")


SUITES: dict[str, Callable[[Setting], Iterator[Ratio]]] = {
    "methods": methods_suite,
    "floor": floor_suite,
    "executors": executors_suite,
    "evaluation": evaluation_suite,
    "growth": growth_suite,
    "others": others_suite,
}
"""Suites by name."""


def run_suites(names: Sequence[str], setting: Setting) -> Iterator[Ratio]:
    """Measure on the CPU, and yield each ratio as soon as it is there.

    Args:
        names: suites to run; all of them if empty.
        setting: see `Setting`.

    Raises:
        UserError: an unknown suite, or a number out of range.
    """
    for name in names:
        if name not in SUITES:
            raise unknown("suite", name, SUITES)
    for what, value in (("turns", setting.turns), ("threads", setting.threads), ("batches", setting.batches)):
        if value < 1:
            raise UserError(f"{what} {value}: it must be at least 1.")
    threads = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    try:
        # All suites are called before the first is measured, so that a wrong path for "others" stops at once.
        for ratios in [SUITES[name](setting) for name in names or SUITES]:
            yield from ratios
    finally:
        torch.set_num_threads(threads)


def _of_bytes(above: int, below: int, over: str, under: str, suite: str, what: str, goal: str) -> Ratio:
    value, mib = above / below, 2.0**20
    return Ratio(suite, f"{what}, MiB", over, under, value, value, value, above / mib, below / mib, goal)
