"""Notices an optimizer's step that nobody announces, so that moving averages follow it."""

from __future__ import annotations

from codistill.execution import Executor

__all__ = ["Following"]


class Following:
    """Lets the averages of an executor follow each step of an optimizer, at the latest before they are next used.

    Optimizers of torch count up the version of what they change. What changes weights otherwise (loading, moving to a
    device, DistributedDataParallel as it begins) is no step, for no batch was trained on before it.

    Args:
        executor: of the students; nothing happens where it has no averages.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.begin()

    def begin(self) -> None:
        """Take the weights as they are for a start."""
        self._seen, self._trained = self._versions(), False

    def trained(self) -> None:
        """A batch was trained on, so that a change from now on may be a step."""
        self._trained = True

    def catch_up(self) -> None:
        """Follow a step that was made since the last call."""
        if self.executor.averages is not None and self._versions() != self._seen:
            if self._trained:
                self.executor.after_step()
            self.begin()

    def step(self) -> None:
        """Follow a step whether it is noticed or not."""
        self.executor.after_step()
        self.begin()

    def _versions(self) -> tuple[int, ...]:
        if self.executor.averages is None:
            return ()
        return tuple(p._version for p in self.executor.group.parameters())
