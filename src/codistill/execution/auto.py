"""`auto`: a short trial of the executors that fit, on copies of the very group that is to be trained; or a rule."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.execution.base import Executor
from codistill.execution.fused import FusedExecutor
from codistill.execution.loop import LoopExecutor
from codistill.execution.recompute import RecomputeExecutor
from codistill.tracing.cost import forward_cost
from codistill.types import PeerOutputs, Progress, StepOutput

__all__ = ["AutoExecutor", "Trial", "free_bytes"]

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


class AutoExecutor(LoopExecutor):
    """`loop`, until `settled` has found the executor to train with.

    `recompute` does all that `loop` does and one forward pass more, so it is taken only where the activations of all
    peers do not fit, or where micro-batches are asked for.
    """

    name = "auto"
    takes: ClassVar[frozenset[str]] = frozenset({"compile", "micro_batch", "memory_limit", "deterministic"})
    SHARE: ClassVar[float] = 0.8
    """Of the free memory, where no limit is given."""

    def compile(self, backend: str = "inductor") -> None:
        """Nothing yet: the executor that is chosen will be compiled."""

    def train_step(self, *args: Any, **kwargs: Any) -> tuple[StepOutput, PeerOutputs]:
        """See `Executor.train_step`; as `loop`, so not with micro-batches before `settled`.

        Raises:
            UserError: `micro_batch` is set, which `loop` cannot do.
        """
        if self.options.micro_batch:
            raise UserError(
                f"micro_batch {self.options.micro_batch} with executor {self.name!r} before its choice: call settled() "
                "first, or build 'recompute'."
            )
        return super().train_step(*args, **kwargs)

    def settled(self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress) -> tuple[Executor, Trial]:
        """See `Executor.settled`."""
        trial = self.trial(views, labels_B, progress)
        kinds: tuple[type[Executor], ...] = (LoopExecutor, FusedExecutor, RecomputeExecutor)
        kind = next(kind for kind in kinds if kind.name == trial.chosen)
        chosen = kind(self.group, self.method, self.options, self.teachers)
        if self.options.compile:
            chosen.compile()
        return chosen, trial

    def trial(self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress) -> Trial:
        """What is found on such a batch; group, method and random state stay as they are.

        Raises:
            UserError: what `loop` itself refuses.
        """
        if self.options.micro_batch:
            return Trial(RecomputeExecutor.name)
        device, limit, timed = labels_B.device, self.options.memory_limit, not self.options.deterministic
        free = free_bytes(device)
        allowed = int(limit * 2**30) if limit is not None else None if free is None else int(self.SHARE * free)
        shapes = [views.shape] if isinstance(views, Tensor) else [view.shape for view in views]
        dtype = views.dtype if isinstance(views, Tensor) else views[0].dtype
        cost = forward_cost(self.group, shapes, device, self.amp, dtype)
        held, few = cost.held_bytes, cost.macs < SMALL * self.group.shape.peers
        if allowed is not None and held > allowed:
            reason = f"all activations take {held / 2**30:.2f} GiB, and {allowed / 2**30:.2f} GiB are allowed"
            return Trial(RecomputeExecutor.name, {}, {LoopExecutor.name: reason}, held, allowed)
        if self.group.shape.peers == 1 or not (timed or few):
            return Trial(LoopExecutor.name, {}, {}, held, allowed)
        steps, refused = self._steps(views, labels_B, progress)
        if LoopExecutor.name in refused:
            return Trial(RecomputeExecutor.name, {}, refused, held, allowed)
        seconds: dict[str, float] = {}
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                seconds = _times(steps, device) if timed else {}
        except torch.OutOfMemoryError:
            refused[FusedExecutor.name] = "out of memory"
        fused, loop = seconds.get(FusedExecutor.name), seconds.get(LoopExecutor.name)
        faster = fused is not None and loop is not None and fused < WORTH * loop if timed else True
        chosen = FusedExecutor if faster and not refused else LoopExecutor
        return Trial(chosen.name, seconds, refused, held, allowed)

    def _steps(
        self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress
    ) -> tuple[dict[str, Callable[[], None]], dict[str, str]]:
        """One step of `loop` and of `fused` on copies, each run once, and why one is missing."""
        steps: dict[str, Callable[[], None]] = {}
        device = labels_B.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for kind in (LoopExecutor, FusedExecutor):
                try:
                    group, method = copy.deepcopy((self.group, self.method))
                    twin = kind(group, method, self.options, self.teachers)
                    twin.train()
                    step = _step(twin, views, labels_B, progress)
                    step()
                except torch.OutOfMemoryError:
                    return steps, {kind.name: "out of memory"}
                except UserError as error:
                    if not steps:
                        raise
                    return steps, {kind.name: str(error)}
                steps[kind.name] = step
        return steps, {}


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
    executor: Executor, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress
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
