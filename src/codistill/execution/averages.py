"""Exponential moving averages of the peers' weights, for methods that learn from them and for deployment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from codistill.peers import PeerGroup
from codistill.types import PeerOutputs

__all__ = ["Averages"]


class Averages:
    """θ' ← δ θ' + (1 - δ) θ after each step, δ = min(1 - 1 / (t + 1), decay), t = 0, 1, ... (Tarvainen & Valpola 2017).

    The first step thus copies the weights. Running statistics are averaged alike; counters are copied. The averages
    always run in evaluation mode, with these statistics (ours: then they draw no random numbers).

    Args:
        group: the peers, before their weights are shared with anything else.
        decay: the largest δ.

    Attributes:
        group: a copy of the peers that holds the averages.
    """

    def __init__(self, group: PeerGroup, decay: float) -> None:
        self.group = copy.deepcopy(group).eval().requires_grad_(False)
        self.decay = decay
        device = next(self.group.parameters()).device
        # On the device, and never read back, so that `follow` can be part of a step that is recorded and replayed.
        self._steps = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)

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
        weight = 1 - (1 - 1 / (self._steps + 1)).clamp_max(self.decay)
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
