"""Peak memory of a step, and whether it grows over many."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["peak_bytes", "resident_bytes"]


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes that one call has at a time on the CPU, beyond what it found; after a call to warm up."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events: list[Any] = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak


def resident_bytes() -> int:
    """The largest resident set of this process so far."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
