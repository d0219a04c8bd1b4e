"""How fast the network that is deployed runs on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from codistill.rundir import INPUT, InputRecord, read_record
from codistill.training import load_student

__all__ = ["Speed", "measure_speed"]

BATCH = 64
WARM_UP, REPEATS, SECONDS = 3, 30, 2.0
"""Calls before the clock counts, calls that are timed at most, and seconds after which no further one is."""


@dataclass(frozen=True)
class Speed:
    """Medians over repeated calls of the plain network in fp32, with nothing else running.

    Attributes:
        milliseconds: of one image, batch 1.
        images_per_second: at batch `batch`.
        batch: 64.
        device: where it ran.
        threads: CPU threads.
    """

    milliseconds: float
    images_per_second: float
    batch: int
    device: str
    threads: int


def measure_speed(run_dir: Path, device: torch.device) -> Speed:
    """Time the student that a finished run hands back."""
    network = load_student(run_dir).to(device)
    facts = read_record(run_dir / INPUT, InputRecord)
    images = torch.randn(BATCH, facts.channels, facts.height, facts.width, device=device)
    with torch.inference_mode():
        one = _seconds(lambda: network(images[:1]), device)
        many = _seconds(lambda: network(images), device)
    return Speed(1000 * one, BATCH / many, BATCH, str(device), torch.get_num_threads())


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the median time of a call."""
    times, until = [], time.perf_counter() + SECONDS
    for turn in range(WARM_UP + REPEATS):
        started = time.perf_counter()
        call()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        ended = time.perf_counter()
        if turn >= WARM_UP:
            times.append(ended - started)
        if times and ended > until:
            break
    return statistics.median(times)
