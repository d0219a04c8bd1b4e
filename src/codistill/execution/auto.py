"""`auto`: a short trial of the executors that fit, on copies of the very group that is to be trained; or a rule."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.execution.fused import FusedExecutor
from codistill.execution.loop import LoopExecutor
from codistill.methods import Method
from codistill.peers import PeerGroup, TaughtGroup
from codistill.tracing.cost import forward_cost
from codistill.types import Progress

__all__ = ["Trial", "free_bytes", "try_executors"]

WARM_UP, ROUNDS, SECONDS = 2, 7, 10.0
"""Steps before the clock starts, timed steps of each executor, and the time after which no further round begins."""

WORTH = 0.95
"""Another executor is taken where its step takes less than this share of a step of `loop`."""

SMALL = 30_000_000
"""Multiply-accumulates of a student's forward pass on a batch, below which `fused` was faster when it was measured."""


@dataclass(frozen=True)
class Trial:
    """What was tried, and what came of it.

    Attributes:
        chosen: name of the executor.
        seconds: per executor tried, the fastest of its steps (forward, method and backward).
        refused: per executor that cannot run this group, why.
        held_bytes: what all peers' activations take at once, as `loop` and `fused` hold them.
        allowed_bytes: what they may take; None where no limit is known.
    """

    chosen: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    held_bytes: int = 0
    allowed_bytes: int | None = None

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e3 * s:.1f} ms a step" for name, s in self.seconds.items())
        why = [times] if times else []
        why += list(self.refused.values())
        return f"executor {self.chosen}" + (f" ({'; '.join(why)})" if why else "")


def try_executors(
    group: PeerGroup,
    method: Method,
    views: Tensor | Sequence[Tensor],
    labels_B: Tensor,
    progress: Progress,
    amp: torch.dtype | None = None,
    allowed_bytes: int | None = None,
    timed: bool = True,
) -> Trial:
    """Find the fastest executor whose activations fit; group, method and random state stay as they are.

    `recompute` does all that `loop` does and one forward pass more, so it is taken only where the activations of all
    peers do not fit.

    Args:
        group: the peers, on their device.
        method: the loss on their outputs.
        views: a batch such as the training's, [B, C, H, W] or one a peer.
        labels_B: its labels.
        progress: a position in the run.
        amp: dtype of mixed precision, or None.
        allowed_bytes: what the activations may take; None for no limit.
        timed: take the one whose steps are fastest; False for a rule that gives the same answer every time: `fused`
            for students of fewer than `SMALL` multiply-accumulates a step.

    Raises:
        UserError: what `loop` itself refuses.
    """
    students = group.students if isinstance(group, TaughtGroup) else group
    shapes = [views.shape] if isinstance(views, Tensor) else [view.shape for view in views]
    cost = forward_cost(students, shapes, labels_B.device, amp)
    held, few = cost.held_bytes, cost.macs < SMALL * group.shape.peers
    if allowed_bytes is not None and held > allowed_bytes:
        reason = f"all activations take {held / 2**30:.2f} GiB, and {allowed_bytes / 2**30:.2f} GiB are allowed"
        return Trial("recompute", {}, {"loop": reason}, held, allowed_bytes)
    if group.shape.peers == 1 or not (timed or few):
        return Trial("loop", {}, {}, held, allowed_bytes)
    device, seconds, refused = labels_B.device, {}, {}
    steps: dict[str, Callable[[], None]] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            for kind in (LoopExecutor, FusedExecutor):
                twin, loss = copy.deepcopy((group, method))
                step = _step(kind(twin.train(), loss.train(), amp), views, labels_B, progress)
                step()
                steps["loop" if kind is LoopExecutor else "fused"] = step
            seconds = _times(steps, device) if timed else {}
        except torch.OutOfMemoryError:
            refused["fused" if steps else "loop"] = "out of memory"
        except UserError as error:
            if not steps:
                raise
            refused["fused"] = str(error)
    if "loop" in refused:
        return Trial("recompute", seconds, refused, held, allowed_bytes)
    faster = seconds["fused"] < WORTH * seconds["loop"] if seconds else not refused
    return Trial("fused" if faster else "loop", seconds, refused, held, allowed_bytes)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device (for the CPU: as Linux counts it); None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _step(
    executor: LoopExecutor, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress
) -> Callable[[], None]:
    def step() -> None:
        executor.group.zero_grad(set_to_none=True)
        executor.method.zero_grad(set_to_none=True)
        executor.train_step(views, labels_B, progress)

    return step


def _times(steps: Mapping[str, Callable[[], None]], device: torch.device) -> dict[str, float]:
    """The fastest step of each; they take turns, since another process may slow the machine down for a while."""
    best: dict[str, float] = {}
    began = time.perf_counter()
    for turn in range(WARM_UP + ROUNDS):
        if turn > 1 and time.perf_counter() - began > SECONDS:
            break
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            elapsed = time.perf_counter() - start
            best[name] = min(elapsed, best.get(name, elapsed))
    return best


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
