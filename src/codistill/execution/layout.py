"""Memory layout of the networks: channels last is faster on a CPU, and for many networks on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from codistill.execution.stopwatch import fastest, layers_undisturbed
from codistill.peers import PeerGroup

__all__ = ["lay_out"]

WORTH = 0.95
"""On a GPU the layout is taken where a pass takes less than this share of the time of the planar one."""


@torch.no_grad()
def lay_out(
    group: nn.Module,
    image_shape: Sequence[int],
    channels_last: bool | None = None,
    *,
    batch: int | None = None,
    amp: torch.dtype | None = None,
) -> bool:
    """Put convolution weights into the channels-last layout, in place; activations follow their layout by themselves.

    The parameters stay the same objects with the same values. Results change by rounding.

    Args:
        group: the peers, or another module that takes images, on its device.
        image_shape: [C, H, W] of the images.
        channels_last: whether to; None: on a CPU, and on a CUDA device if `batch` is given and passes of one peer's
            network, forward and backward, are faster with it.
        batch: images of a training step.
        amp: precision of the networks' passes under autocast, if it is not that of their weights.

    Returns:
        Whether it was done: a network whose forward only works on planar activations (by `view`) is left alone, and
        with it the group.
    """
    device = next(group.parameters()).device
    wanted = device.type == "cpu" if channels_last is None else channels_last
    timed = channels_last is None and device.type == "cuda" and batch is not None
    if not (wanted or timed) or not _runs_channels_last(group, image_shape):
        return False
    if timed:
        assert batch is not None
        network = group.plain_network(0) if isinstance(group, PeerGroup) else group
        if not is_faster(network, (batch, *image_shape), device, amp):
            return False
    group.to(memory_format=torch.channels_last)
    return True


@torch.enable_grad()
def is_faster(network: nn.Module, shape: Sequence[int], device: torch.device, amp: torch.dtype | None) -> bool:
    """Whether passes forward and backward of copies are clearly faster with channels last; False without memory."""
    images = torch.zeros(*shape, device=device)
    network = copy.deepcopy(network).to(device)

    def passes(memory_format: torch.memory_format) -> Callable[[], None]:
        twin = copy.deepcopy(network).to(memory_format=memory_format).train()  # pyright: ignore[reportCallIssue]

        def run() -> None:
            twin.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                returned = twin(images)
            _sum(returned).backward()

        return run

    steps = {"planar": passes(torch.contiguous_format), "channels last": passes(torch.channels_last)}
    with layers_undisturbed(device):
        seconds, failed = fastest(steps, device)
    return not failed and seconds["channels last"] < WORTH * seconds["planar"]


def _sum(returned: object) -> torch.Tensor:
    """The sum of the first floating-point tensor with a gradient in what a network returns."""
    tensors = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
    return next(tensor for tensor in tensors if tensor.requires_grad).float().sum()


def _runs_channels_last(group: nn.Module, image_shape: Sequence[int]) -> bool:
    """Try both modes on a copy: a training forward changes statistics and draws random numbers."""
    device = next(group.parameters()).device
    with layers_undisturbed(device):
        images = torch.zeros(2, *image_shape, device=device)
        try:
            # Weights of five axes have another such layout.
            twin = copy.deepcopy(group).to(memory_format=torch.channels_last)
            for mode in (True, False):
                twin.train(mode)(images)
        except RuntimeError:
            return False
    return True
