"""The norm of the gradient is held below a bound, student by student, without waiting for the device."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from codistill.methods import Method
from codistill.peers import PeerGroup

__all__ = ["Clipping"]


class Clipping:
    """Scales down gradients whose 2-norm exceeds `largest`, each part by its own norm.

    The parts are what each student alone runs through, what several students share, and the method's parameters.

    Args:
        group: the students.
        method: the loss.
        largest: the bound.

    Attributes:
        parts: their parameters.
    """

    def __init__(self, group: PeerGroup, method: Method, largest: float) -> None:
        own = [group.owned_parameters([peer]) for peer in range(group.shape.peers)]
        taken = {id(p) for part in own for p in part}
        shared = [p for p in group.parameters() if id(p) not in taken]
        self.parts: list[list[nn.Parameter]] = [*own, shared, list(method.parameters())]
        self.largest = largest

    def __call__(self) -> None:
        """Clip the gradients that are there; a part without any is passed over."""
        for part in self.parts:
            moved = [p for p in part if p.grad is not None]
            if moved:
                norm = get_total_norm([p.grad for p in moved if p.grad is not None])
                clip_grads_with_norm_(moved, self.largest, norm)
