"""Times short steps on a device, for choices by trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch

from codistill.execution.replay import NotRecordedError

__all__ = ["fastest", "layers_undisturbed"]

WARM_UP, ROUNDS, SECONDS = 2, 7, 10.0
"""Rounds before the clock starts, timed rounds, and the time after which no further round begins."""

QUEUED = 5
"""Steps of a round on a device of its own, where the next step is launched while the last one runs."""


def layers_undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """A scope whose draws for dropout and the like leave the random states as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def fastest(steps: Mapping[str, Callable[[], object]], device: torch.device) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of the fastest step of each, and why one has none.

    They take turns, since another process may slow the machine down for a while.
    """
    best: dict[str, float] = {}
    failed: dict[str, str] = {}
    began = time.perf_counter()
    for turn in range(WARM_UP + ROUNDS):
        if turn > 1 and time.perf_counter() - began > SECONDS:
            break
        for name, step in steps.items():
            if name in failed:
                continue
            try:
                elapsed = _seconds(step, device)
            except NotRecordedError as error:
                failed[name] = f"{name}: its step cannot be recorded ({error})"
            except torch.OutOfMemoryError:
                failed[name] = "out of memory"
            else:
                best[name] = min(elapsed, best.get(name, elapsed))
    return {name: seconds for name, seconds in best.items() if name not in failed}, failed


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    count = 1 if device.type == "cpu" else QUEUED
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait(device)
    return (time.perf_counter() - start) / count


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
