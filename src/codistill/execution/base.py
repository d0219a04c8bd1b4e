"""The interface of every executor, and the crossing of the output boundary that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from codistill.types import PeerOutputs, Progress, StepOutput

__all__ = ["Executor", "through_boundary"]


class Executor(Protocol):
    """Runs the peers of one group; a method sees nothing but the outputs that it is given here."""

    def train_step(
        self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress, only: int | None = None
    ) -> tuple[StepOutput, PeerOutputs]:
        """Forward, the method's loss on the outputs, and backward; gradients are added to the parameters' `.grad`.

        Args:
            views: images [B, C, H, W], one tensor for all peers or one a peer.
            labels_B: class indices.
            progress: position in the run.
            only: differentiate this student's loss alone (alternating updates); None for the whole loss.

        Returns:
            The method's step (detached from the networks) and the outputs it was computed from (leaves).
        """
        ...

    def predict(self, images: Tensor) -> PeerOutputs:
        """Outputs in evaluation mode of the caller's choosing, without a graph, logits in fp32."""
        ...


def through_boundary(outputs: PeerOutputs, boundary: PeerOutputs) -> None:
    """Carry the gradients collected at the boundary's leaves back into the networks that made `outputs`."""
    tensors: list[Tensor] = []
    gradients: list[Tensor] = []
    for tensor, leaf in zip(outputs.tensors(), boundary.tensors(), strict=True):
        if tensor.requires_grad and leaf.grad is not None:
            tensors.append(tensor)
            gradients.append(leaf.grad.to(tensor.dtype))
    if tensors:
        torch.autograd.backward(tensors, gradients)
