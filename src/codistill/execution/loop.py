"""The plain executor: peers one after the other in one autograd graph. All others are held to its results."""

from __future__ import annotations

from typing import ClassVar

from codistill.execution.base import Executor
from codistill.execution.onednn_guard import safe_convolutions

__all__ = ["LoopExecutor"]


class LoopExecutor(Executor):
    """What the base class does; see `Executor`."""

    name = "loop"
    takes: ClassVar[frozenset[str]] = frozenset({"compile", "cuda_graphs"})

    def compile(self, backend: str = "inductor") -> None:
        """See `Executor.compile`."""
        self.group.compile(backend=backend)

    def moved(self) -> None:
        """To be called after the networks have been moved to another device."""
        self._safe = safe_convolutions(self.group, self.teachers)
