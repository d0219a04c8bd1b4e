"""Memory layout of the networks: with channels last, a CPU's convolutions and batch norms are faster."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["lay_out"]


@torch.no_grad()
def lay_out(group: nn.Module, image_shape: Sequence[int], channels_last: bool | None = None) -> bool:
    """Put convolution weights into the channels-last layout, in place; activations follow their layout by themselves.

    The parameters stay the same objects with the same values. Results change by rounding.

    Args:
        group: the peers, or another module that takes images, on its device.
        image_shape: [C, H, W] of the images.
        channels_last: None for where it was measured to be faster, on a CPU; else whether to.

    Returns:
        Whether it was done: a network whose forward only works on planar activations (by `view`) is left alone, and
        with it the group.
    """
    device = next(group.parameters()).device
    if channels_last is None:
        channels_last = device.type == "cpu"
    if not channels_last or not _runs_channels_last(group, image_shape):
        return False
    group.to(memory_format=torch.channels_last)
    return True


def _runs_channels_last(group: nn.Module, image_shape: Sequence[int]) -> bool:
    """Try both modes on a copy: a training forward changes statistics and draws random numbers."""
    device = next(group.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        images = torch.zeros(2, *image_shape, device=device)
        try:
            # Weights of five axes have another such layout.
            twin = copy.deepcopy(group).to(memory_format=torch.channels_last)
            for mode in (True, False):
                twin.train(mode)(images)
        except RuntimeError:
            return False
    return True
