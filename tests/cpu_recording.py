"""A recording of a step's operations on the CPU, in the place of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recorded_ops import RecordedOps

__all__ = ["CpuRecording"]


class CpuRecording:
    """See `codistill.execution.replay.Recording`; the call that is recorded does its work at once."""

    def __init__(self, *_: Any) -> None:
        self.recorded, self.done = RecordedOps(), False

    def prepare(self, call: Callable[[], Any]) -> Any:
        return call()

    def record(self, call: Callable[[], Any]) -> Any:
        with self.recorded:
            result = call()
        self.done = True
        return result

    def replay(self) -> None:
        if not self.done:
            self.recorded.replay()
        self.done = False
