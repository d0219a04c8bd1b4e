"""`auto`: a short trial of the executors that fit, on copies of the very group that is to be trained; or a rule."""

from __future__ import annotations

import copy
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
from codistill.execution.replay import CudaGraph, Recording, Replayed
from codistill.execution.stopwatch import fastest, layers_undisturbed
from codistill.tracing.cost import forward_cost
from codistill.types import PeerOutputs, Progress, StepOutput

__all__ = ["AutoExecutor", "Trial", "free_bytes"]

WORTH = 0.95
"""Another way is taken where its step takes less than this share of a step of `loop`."""

SMALL = 30_000_000
"""Multiply-accumulates of a student's forward pass on a batch, below which `fused` was faster when it was measured."""

GRAPHS = " with graphs"
"""What follows an executor's name where its step is recorded as a CUDA graph and replayed."""


@dataclass(frozen=True)
class Trial:
    """What was tried, and what came of it.

    Attributes:
        chosen: name of the executor.
        seconds: per way tried, the fastest of its steps (forward, method and backward); a way is the name of an
            executor, followed by " with graphs" where its step was recorded as a CUDA graph.
        refused: per way that cannot run this group, why.
        held_bytes: what all peers' activations take at once, as `loop` and `fused` hold them.
        allowed_bytes: what they may take; None where no limit is known.
        cuda_graphs: whether the chosen executor's step is to be recorded as a CUDA graph.
    """

    chosen: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    held_bytes: int = 0
    allowed_bytes: int | None = None
    cuda_graphs: bool = False

    def __str__(self) -> str:
        times = ", ".join(f"{name} {1e3 * s:.1f} ms a step" for name, s in self.seconds.items())
        why = [times] if times else []
        why += list(self.refused.values())
        chosen = self.chosen + (GRAPHS if self.cuda_graphs else "")
        return f"executor {chosen}" + (f" ({'; '.join(why)})" if why else "")


class AutoExecutor(LoopExecutor):
    """`loop`, until `settled` has found the executor to train with.

    On a CUDA device the trial also records the step of each executor as a CUDA graph, where neither the options nor the
    method forbid it, and takes the fastest way of all.

    `recompute` does all that `loop` does and one forward pass more, so it is taken only where the activations of all
    peers do not fit, or where micro-batches are asked for.
    """

    name = "auto"
    in_several = "distributed"
    takes: ClassVar[frozenset[str]] = frozenset(
        {"compile", "cuda_graphs", "micro_batch", "memory_limit", "deterministic"}
    )
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
        alone, recording = self.group.shape.peers == 1, self._recording(device)
        graphs = bool(self.options.cuda_graphs)
        if (alone and recording is None) or not (timed or few):
            return Trial(LoopExecutor.name, {}, {}, held, allowed, graphs)
        kinds = (LoopExecutor,) if alone else (LoopExecutor, FusedExecutor)
        steps, refused = self._steps(kinds, views, labels_B, progress, recording)
        if LoopExecutor.name in refused:
            return Trial(RecomputeExecutor.name, {}, refused, held, allowed)
        if not timed:
            chosen = FusedExecutor.name if FusedExecutor.name in steps else LoopExecutor.name
            return Trial(chosen, {}, refused, held, allowed, graphs)
        with layers_undisturbed(device):
            seconds, failed = fastest(steps, device)
        refused |= failed
        if LoopExecutor.name in failed:
            return Trial(RecomputeExecutor.name, {}, refused, held, allowed)
        chosen, graphs = self._choice(seconds)
        return Trial(chosen, seconds, refused, held, allowed, graphs)

    def _recording(self, device: torch.device) -> Callable[[], Recording] | None:
        """What makes a recording to try; None where there is none, or it is not wanted."""
        wanted = self.options.cuda_graphs is not False and not self.options.deterministic
        if device.type != "cuda" or not wanted or not self.method.recordable:
            return None
        return lambda: CudaGraph(device)

    def _steps(
        self,
        kinds: Sequence[type[Executor]],
        views: Tensor | Sequence[Tensor],
        labels_B: Tensor,
        progress: Progress,
        recording: Callable[[], Recording] | None,
    ) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
        """One step in every way, on copies, each run once, and why one is missing."""
        steps: dict[str, Callable[[], object]] = {}
        device = labels_B.device
        with layers_undisturbed(device):
            for kind in kinds:
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
                if recording is not None:
                    steps[kind.name + GRAPHS] = Replayed(step, recording(), list(twin.modules().values()))
        return steps, {}

    def _choice(self, seconds: Mapping[str, float]) -> tuple[str, bool]:
        """The executor of the fastest way, and whether with graphs; `loop` unless another way is clearly faster."""
        usual = LoopExecutor.name + (GRAPHS if self.options.cuda_graphs else "")
        ways = {way: s for way, s in seconds.items() if not self.options.cuda_graphs or way.endswith(GRAPHS)}
        best = min(ways, key=lambda way: ways[way], default=usual)
        if usual in ways and ways[best] >= WORTH * ways[usual]:
            best = usual
        return best.removesuffix(GRAPHS), best.endswith(GRAPHS)


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
) -> Callable[[], object]:
    def step() -> None:
        executor.group.zero_grad(set_to_none=True)
        executor.method.zero_grad(set_to_none=True)
        executor.train_step(views, labels_B, progress)

    return step
