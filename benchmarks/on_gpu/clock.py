"""Times steps on a device, and what stands in for a CUDA graph where there is none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from codistill.execution.replay import WARM_UP, CudaGraph, Recording
from on_gpu.setting import Numbers, Setting

__all__ = ["Rehearsal", "rate", "recording_of", "step_seconds", "synchronise"]

T = TypeVar("T")

TURNS = 5
"""Timed turns, of which the median counts."""

TURN_SECONDS = 0.12
"""How long a turn takes, or one call if that takes longer."""


class Rehearsal:
    """See `codistill.execution.replay.Recording`; to replay, it calls the function again."""

    def __init__(self, *_: object) -> None:
        self._call: Callable[[], object] | None = None
        self._done = False

    def prepare(self, call: Callable[[], T]) -> T:
        """Call it."""
        return call()

    def record(self, call: Callable[[], T]) -> T:
        """Call it, and remember it."""
        self._call, self._done = call, True
        return call()

    def replay(self) -> None:
        """Call it, unless `record` has just done so."""
        assert self._call is not None
        if not self._done:
            self._call()
        self._done = False


def recording_of(device: torch.device) -> Callable[[torch.device], Recording]:
    """Return what makes a recording on this device."""
    return CudaGraph if device.type == "cuda" else Rehearsal


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_seconds(step: Callable[[], object], setting: Setting) -> list[float]:
    """Seconds per step in each of several turns, by the host's clock, with the device idle at both ends of a turn.

    The first calls, in which a graph is recorded, do not count.
    """
    device, turns, warm_up = setting.device, TURNS, WARM_UP + 2
    if setting.rehearsal:
        turns, warm_up = 1, WARM_UP + 1
    for _ in range(warm_up):
        step()
    once = 0.0 if setting.rehearsal else _turn(step, 3, device)
    count = 1 if setting.rehearsal else max(1, round(TURN_SECONDS / once))
    return [_turn(step, count, device) for _ in range(turns)]


def rate(step: Callable[[], object], images: int, setting: Setting) -> Numbers:
    """Time a step on so many images: milliseconds, images per second, and the most memory that was allocated."""
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    seconds = step_seconds(step, setting)
    middle = statistics.median(seconds)
    numbers: Numbers = {
        "step_ms": 1e3 * middle,
        "least_ms": 1e3 * min(seconds),
        "most_ms": 1e3 * max(seconds),
        "images_per_second": images / middle,
    }
    if setting.device.type == "cuda":
        numbers["peak_mib"] = torch.cuda.max_memory_allocated(setting.device) / 2**20
    return numbers


def _turn(step: Callable[[], object], count: int, device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    synchronise(device)
    return (time.perf_counter() - start) / count
