"""Peak memory of a step, and whether it grows over many."""

from __future__ import annotations

import gc
import resource
import sys
from typing import Any

import torch

from ratios.race import Timed

__all__ = ["peak_bytes", "resident_bytes"]


def peak_bytes(call: Timed) -> int:
    """Return the most bytes that one call holds on the CPU at any time, in addition to those held before it.

    The function is called once before, to warm up.
    """
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events: list[Any] = profile.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak


def resident_bytes() -> int:
    """Return the largest resident set that this process has had so far."""
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
