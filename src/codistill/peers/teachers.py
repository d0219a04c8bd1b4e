"""Frozen teachers, whose logits stand next to the students' (kd; Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.peers.logits import LogitsReader, Output
from codistill.types import PeerOutputs

__all__ = ["Teachers"]


class Teachers(nn.ModuleList):
    """Networks in evaluation mode, without gradient; no part of a group's parameters or state.

    Args:
        networks: K networks with logits of the students' classes; none for no teachers.
        output: where the logits are in what they return, see `NetworkGroup`.
        class_axis: axis of the classes, see `NetworkGroup`.
    """

    def __init__(self, networks: Sequence[nn.Module] = (), output: Output | None = None, class_axis: int = -1) -> None:
        super().__init__(networks)
        self.reader = LogitsReader(output, class_axis)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Teachers:
        """Stay in evaluation mode."""
        return super().train(False)

    def add_to(self, outputs: PeerOutputs, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """Return the students' outputs with the teachers' logits, [K, B, ..., C]; as they are without teachers.

        Raises:
            UserError: students with different views: a teacher's answer to one is no target for another; or a teacher
                of other classes.
        """
        if not len(self):
            return outputs
        if not isinstance(views, Tensor):
            raise UserError("teachers with one view per student (icl): a teacher answers one view; turn icl off.")
        read = dataclasses.replace(self.reader, num_classes=outputs.logits_PBC.shape[-1])
        with torch.no_grad():
            logits_KBC = torch.stack([read(teacher(views), views) for teacher in self])
        return dataclasses.replace(outputs, teacher_logits_KBC=logits_KBC)
