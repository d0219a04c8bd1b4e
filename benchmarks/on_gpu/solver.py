"""KDCL-Linear's solver: milliseconds, kernel launches and waits of the host, per solve."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from codistill.targets import linear
from on_gpu.clock import step_seconds, synchronise
from on_gpu.setting import Measurement, Numbers, Setting

__all__ = ["solver"]

READS = "aten::_local_scalar_dense"
"""The operation that gives a number to the host; on the CPU it stands for a wait."""


def solver(setting: Setting) -> Iterator[Measurement]:
    """Two sizes of the papers, for logits that differ little, as in training, and very much."""
    shapes = ((2, 8, 5),) if setting.rehearsal else ((4, 128, 100), (4, 256, 1000))
    for shape in shapes:
        for spread in (1.0, 3.0, 10.0, 100.0):
            what = f"{' × '.join(map(str, shape))}, logits of deviation {spread:g}"
            yield Measurement(what, partial(_solve, shape, spread, setting))


def _solve(shape: tuple[int, int, int], spread: float, setting: Setting) -> Numbers:
    own = torch.Generator().manual_seed(0)
    P, B, C = shape
    logits_PBC = (torch.randn(shape, generator=own) * spread).to(setting.device)
    labels_B = torch.randint(C, (B,), generator=own).to(setting.device)
    seconds = step_seconds(lambda: linear(logits_PBC, labels_B), setting)
    place = {"shape": f"{P} × {B} × {C}", "spread": spread}
    return {**place, "ms": 1e3 * statistics.median(seconds), **_launches(logits_PBC, labels_B)}


def _launches(logits_PBC: torch.Tensor, labels_B: torch.Tensor) -> Numbers:
    device = logits_PBC.device
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    synchronise(device)
    with profile(activities=activities) as watched:
        linear(logits_PBC, labels_B)
        synchronise(device)
    counts = {event.key: event.count for event in watched.key_averages()}
    kernels = sum(1 for event in watched.events() or [] if event.device_type.name == "CUDA")
    waits = waits_of(partial(linear, logits_PBC, labels_B)) if device.type == "cuda" else counts.get(READS, 0)
    operations = sum(n for name, n in counts.items() if name.startswith("aten::"))
    return {"operations": operations, "kernels": kernels, "waits": waits}


def waits_of(call: Callable[[], object]) -> int:
    """Return how often the host waits for the CUDA device in a call, as torch warns of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(warning.message) for warning in caught)
