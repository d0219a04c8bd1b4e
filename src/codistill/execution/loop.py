"""The plain executor: peers one after the other in one autograd graph. All others are held to its results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codistill.execution.base import through_boundary
from codistill.execution.pointwise import safe_convolutions
from codistill.methods import Method
from codistill.peers import PeerGroup
from codistill.types import PeerOutputs, Progress, StepOutput

__all__ = ["LoopExecutor"]


class LoopExecutor:
    """See `Executor`.

    Args:
        group: the peers, on their device.
        method: the loss on their outputs.
        amp: dtype of mixed precision for the networks (torch.bfloat16), or None. The method always computes in fp32.
    """

    def __init__(self, group: PeerGroup, method: Method, amp: torch.dtype | None = None) -> None:
        self.group, self.method, self.amp = group, method, amp
        self._safe = safe_convolutions(group)

    def train_step(
        self, views: Tensor | Sequence[Tensor], labels_B: Tensor, progress: Progress, only: int | None = None
    ) -> tuple[StepOutput, PeerOutputs]:
        """One step; see `Executor.train_step`."""
        outputs = self._forward(views, labels_B.device)
        boundary = outputs.at_boundary()
        step = self.method(boundary, labels_B, progress)
        (step.loss if only is None else step.loss_by_peer[only]).backward()
        self._carry_back(outputs, boundary)
        return step, boundary

    @torch.no_grad()
    def predict(self, images: Tensor) -> PeerOutputs:
        """Outputs without a graph; see `Executor.predict`."""
        outputs = self._forward(images, images.device)
        return PeerOutputs(outputs.logits_PBC.float(), outputs.features, outputs.trunk_features)

    def compile(self, backend: str = "inductor") -> None:
        """Compile the networks' forward and backward passes with torch.compile, at the first step of each kind."""
        self.group.compile(backend=backend)

    def _forward(self, views: Tensor | Sequence[Tensor], device: torch.device) -> PeerOutputs:
        with self._safe, torch.autocast(device.type, dtype=self.amp, enabled=self.amp is not None):
            return self._run(views)

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        return self.group(views)

    def _carry_back(self, outputs: PeerOutputs, boundary: PeerOutputs) -> None:
        through_boundary(outputs, boundary)
