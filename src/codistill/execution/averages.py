"""Exponential moving averages of the peers' weights, for methods that learn from them and for deployment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codistill.peers import PeerGroup
from codistill.types import PeerOutputs

__all__ = ["Averages"]


class Averages(nn.Module):
    """θ' ← δ θ' + (1 - δ) θ after each step, δ = min(1 - 1 / (t + 1), decay), t = 0, 1, ... (Tarvainen & Valpola 2017).

    The first step thus copies the weights. Running statistics are averaged alike; counters are copied. The averages
    always run in evaluation mode, with these statistics (ours: then they draw no random numbers).

    Args:
        group: the peers, before their weights are shared with anything else.
        decay: the largest δ.

    Attributes:
        group: a copy of the peers that holds the averages.
    """

    _steps: Tensor

    def __init__(self, group: PeerGroup, decay: float) -> None:
        super().__init__()
        self.group = copy.deepcopy(group).eval().requires_grad_(False)
        self.decay = decay
        device = next(self.group.parameters()).device
        # On the device, and never read back, so that `follow` can be part of a step that is recorded and replayed. An
        # integer, which no change of the networks' precision rounds.
        self.register_buffer("_steps", torch.zeros((), device=device, dtype=torch.int64))
        self.eval()

    def train(self, mode: bool = True) -> Averages:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def steps(self) -> int:
        """t, the number of steps followed; reading it makes the host wait for the device."""
        return int(self._steps)

    @steps.setter
    def steps(self, steps: int) -> None:
        self._steps.fill_(steps)

    @torch.no_grad()
    def follow(self, group: PeerGroup) -> None:
        """Take in the weights after a step."""
        kind = torch.float32 if self._steps.device.type == "mps" else torch.float64
        weight = 1 - (1 - 1 / (self._steps + 1).to(kind)).clamp_max(self.decay)
        means = [*self.group.parameters(), *self.group.buffers()]
        pairs = list(zip(means, [*group.parameters(), *group.buffers()], strict=True))
        floating = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
        for mean, now in floating:
            mean.lerp_(now, weight.to(mean.dtype))
        for mean, now in pairs:
            if not mean.is_floating_point():
                mean.copy_(now)
        self._steps += 1

    @torch.no_grad()
    def run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The averages' own outputs."""
        return self.group(views)

    def add_to(self, outputs: PeerOutputs, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """The peers' outputs with those of their averages, each on its peer's view."""
        own = self.run(views)
        return dataclasses.replace(outputs, averaged_logits_PBC=own.logits_PBC, averaged_features=own.features)
