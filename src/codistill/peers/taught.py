"""A group that learns beside frozen teachers (kd; Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.peers.base import PeerGroup, check_logits
from codistill.types import PeerOutputs

__all__ = ["TaughtGroup"]


class TaughtGroup(PeerGroup):
    """Any group, with the logits of frozen teachers added to its outputs in training mode.

    The teachers run in evaluation mode without a graph, move with the group to its device, and are no part of its
    parameters or its state.

    Args:
        group: the students.
        teachers: one or more networks with logits [B, C] of the same classes.

    Raises:
        UserError: no teacher.
    """

    def __init__(self, group: PeerGroup, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        if not teachers:
            raise UserError("0 teachers: give one or more networks, or use the group without teachers.")
        self.students = group
        # In a tuple, so that they are no submodules: not trained, not counted, not saved.
        self._teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)
        self.shape = dataclasses.replace(group.shape, teachers=len(teachers))
        self.image_shape = group.image_shape

    def forward(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The students' outputs, in training mode with teacher_logits_KBC; the teachers see the students' one view.

        Raises:
            UserError: students with different views: a teacher's answer to one is no target for another.
        """
        return self.add_teachers(self.students(views), views)

    def add_teachers(self, outputs: PeerOutputs, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The students' outputs with the teachers' logits, in training mode; see `forward`."""
        if not self.training:
            return outputs
        if not isinstance(views, Tensor):
            raise UserError("teachers with one view a student (icl): a teacher answers one view; turn icl off.")
        with torch.no_grad():
            logits = [check_logits(teacher(views), views, self.shape.num_classes) for teacher in self._teachers]
        return dataclasses.replace(outputs, teacher_logits_KBC=torch.stack(logits))

    def student(self, peer: int) -> nn.Module:
        """See `PeerGroup.student`."""
        return self.students.student(peer)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TaughtGroup:
        for teacher in self._teachers:
            teacher._apply(fn)
        return super()._apply(fn, recurse)
