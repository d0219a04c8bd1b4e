"""Notices the easy mistake of an own loop: a method's parameters that were not given to the optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Unmoved"]


class Unmoved:
    """Notices a method whose parameters get gradient and never move: they were not given to the optimizer.

    Where the students' own parameters are seen to move meanwhile, two steps say enough. An executor cuts the outputs
    off the networks' graph, and some optimizers write to `p.data`; then many steps must.
    """

    PATIENCE = 50
    """Training calls without a change after which there is a warning whatever the students do."""
    MOVES = 2
    """Steps from the first call on that have moved the students and not the method, after which there is one."""

    def __init__(self) -> None:
        self.calls, self.versions = 0, ()
        self.before: list[Tensor] = []
        self.first, self.at_first = (), list[Tensor]()
        self.moves, self.student = 0, ()
        self.starting = True

    def look(self, method: nn.Module, logits: Tensor) -> None:
        """Count a training call; warn once where no parameter has changed for too many of them.

        Args:
            method: whose parameters they are.
            logits: of the students, with the graph that leads to their parameters where there is one.
        """
        if self.calls > self.PATIENCE:
            return
        if self.starting and self._stands_at_the_start(method, logits):
            trained = [p for p in method.parameters() if p.requires_grad]
            # An optimizer that held them would have changed their versions, even with gradients of zero.
            self._judge(method, trained, self.at_first, f"in {self.moves} steps that moved the students", True)
        if not self.starting:
            self.at_first = []
        parameters = [p for p in method.parameters() if p.requires_grad and p.grad is not None]
        if not parameters:
            return
        versions = _versions(parameters)
        self.calls = self.calls + 1 if versions == self.versions else 0
        self.versions = versions
        # Optimizers that write to p.data leave the version as it is, so the values have the last word. Reading them
        # makes the host wait for a device, once per run at most.
        if self.calls == self.PATIENCE // 2:
            self.before = [p.detach().clone() for p in parameters]
        if self.calls == self.PATIENCE:
            pulled = any(bool(p.grad.any()) for p in parameters if p.grad is not None)
            self._judge(method, parameters, self.before, f"for {self.PATIENCE} steps", pulled)

    def _stands_at_the_start(self, method: nn.Module, logits: Tensor) -> bool:
        """Whether the students have moved since the first call, and the method has not, though it has gradients."""
        parameters = [p for p in method.parameters() if p.requires_grad]
        versions, seen = _versions(parameters), _parameter_behind(logits)
        student = () if seen is None else _versions([seen])
        if not self.first:
            self.first, self.at_first = versions, [p.detach().clone() for p in parameters]
        elif student != self.student:
            self.moves += 1
        self.student = student
        # A method that has moved once has an optimizer, if one that steps more seldom than the students'.
        self.starting = bool(parameters and student) and versions == self.first
        ready = self.moves >= self.MOVES and any(p.grad is not None for p in parameters)
        if self.starting and ready:
            self.starting = False
            return True
        return False

    def _judge(
        self, method: nn.Module, parameters: Sequence[Tensor], before: Sequence[Tensor], during: str, pulled: bool
    ) -> None:
        moved = any(not torch.equal(p.detach(), old) for p, old in zip(parameters, before, strict=True))
        unmoved = pulled and not moved
        if unmoved:
            warnings.warn(
                f"the parameters of {type(method).__name__} have not changed {during}, though they have gradients: "
                "give method.parameters() to the optimizer, next to group.parameters()",
                stacklevel=6,
            )
        if unmoved or self.calls == self.PATIENCE:
            self.calls, self.before = self.PATIENCE + 1, []


def _versions(parameters: Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
    """Something that changes with every change of a parameter by an optimizer that torch knows of."""
    return tuple((id(p), p._version) for p in parameters)


def _parameter_behind(logits: Tensor) -> nn.Parameter | None:
    """The first parameter on the way back from the logits, the last layer's; None where no graph leads there."""
    nodes, seen = [logits.grad_fn], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            return variable
        nodes.extend(before for before, _ in node.next_functions)
    return None
