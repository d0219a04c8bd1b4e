"""A step recorded once and replayed: a small step on a GPU takes the host longer to launch than the device to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from codistill.errors import one_line
from codistill.execution.host_state import HostState

__all__ = ["CudaGraph", "NotRecordedError", "Recording", "Replayed"]

T = TypeVar("T")

WARM_UP = 3
"""Calls before the one that is recorded: libraries set themselves up in the first ones, which cannot be recorded."""


class NotRecordedError(RuntimeError):
    """A call that does what a recording cannot repeat, and what that is."""


class Recording(Protocol):
    """What can record the device's work of a call and repeat it, on the same memory, without the call's Python."""

    def prepare(self, call: Callable[[], T]) -> T:
        """Make a call that is not recorded, where a recorded one would run."""
        ...

    def record(self, call: Callable[[], T]) -> T:
        """Record a call; whether its work is done as well, only `replay` makes sure of."""
        ...

    def replay(self) -> None:
        """Do the recorded work."""


class CudaGraph:
    """A recording as a CUDA graph.

    What is recorded must not wait for the device, allocate on the host or run on another device.
    """

    def __init__(self, device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def prepare(self, call: Callable[[], T]) -> T:
        """See `Recording.prepare`; on the stream that will be recorded, as CUDA asks for."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            result = call()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return result

    def record(self, call: Callable[[], T]) -> T:
        """See `Recording.record`."""
        # "thread_local": threads that pin memory for the next images may go on meanwhile.
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            return call()

    def replay(self) -> None:
        """See `Recording.replay`."""
        self._graph.replay()


class Replayed(Generic[T]):
    """A function of tensors that is called as it is a few times, then recorded, and from then on replayed.

    The first calls count like all others. Every call copies its inputs into memory of its own, from which the function
    reads, and returns what the function returned when it was recorded, whose tensors then hold the new values. A change
    of shapes, dtypes or layouts is not noticed: make one `Replayed` for each.

    Args:
        function: what it does must depend on nothing but the inputs and tensors that keep their memory; no Python of it
            runs in a replay.
        recording: how to record.
        modules: what the function runs; their numbers on the host must stay as they are.

    Raises:
        NotRecordedError: the function waits for the device, draws random numbers on the host, or changes a number
            there. On a CUDA device the call that raises has changed no tensor.
    """

    def __init__(self, function: Callable[..., T], recording: Recording, modules: Sequence[nn.Module] = ()) -> None:
        self._function, self._recording, self._modules = function, recording, modules
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._result: Any = None

    def __call__(self, *inputs: Tensor) -> T:
        """The function's result; valid until the next call."""
        if not self._inputs:
            self._inputs = tuple(torch.empty_like(tensor) for tensor in inputs)
        _copy(self._inputs, inputs)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._recording.prepare(self._run)
        if self._calls == WARM_UP + 1:
            self._result = self._record()
        self._recording.replay()
        return self._result

    def _record(self) -> T:
        before = HostState(self._modules)
        try:
            result = self._recording.record(self._run)
        # Libraries raise errors of many kinds here.
        except Exception as error:
            raise NotRecordedError(one_line(error)) from error
        change = before.change()
        if change is not None:
            raise NotRecordedError(change)
        return result

    def _run(self) -> T:
        return self._function(*self._inputs)


@torch.no_grad()
def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)
