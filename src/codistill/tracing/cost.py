"""What a forward pass costs, counted on tensors without values: multiply-accumulates, and memory kept for backward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from codistill.tracing.probe import without_values

__all__ = ["TRAINING_FORWARDS", "Cost", "count_macs", "forward_cost", "trainable"]

TRAINING_FORWARDS = 3
"""Forward passes that a step of training counts as: the backward pass is two, since the gradients of the inputs and of
the weights cost one each."""


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    Attributes:
        macs: multiply-accumulates of convolutions, linear layers and attention; norms and activations are not counted.
        held_bytes: bytes that autograd keeps for the backward pass, each storage once, without parameters and buffers.
    """

    macs: int
    held_bytes: int


def trainable(module: nn.Module) -> int:
    """Return the number of trainable parameters, each counted once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_macs(forward: Callable[[], object]) -> int:
    """Return the multiply-accumulates of the convolutions and matrix products in a call, forward only."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() // 2


def forward_cost(
    net: nn.Module,
    shapes: Sequence[Sequence[int]],
    device: torch.device,
    amp: torch.dtype | None = None,
    dtype: torch.dtype = torch.float32,
) -> Cost:
    """Return the cost of `net` in training mode; the network does not change, and no random number is drawn.

    Fake tensors, which have no values, go through the operations that the device would run, so the bytes are those of a
    real step. If the network reads values, a copy of it runs once on real zeros instead.

    Args:
        net: a network or a group.
        shapes: the shape [B, C, H, W] of one image batch for all peers, or one shape per peer.
        device: where the training will run.
        amp: dtype of mixed precision, or None.
        dtype: of the inputs.
    """
    # Constants that are not buffers stay real tensors.
    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def fake_like(tensor: Tensor) -> Tensor:
        with fake:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)

    with torch.random.fork_rng():
        fake_net = without_values(net, fake_like).train()
        try:
            with fake:
                return _run(fake_net, [torch.empty(*shape, device=device, dtype=dtype) for shape in shapes], amp)
        except Exception:
            # Fake tensors fail with many exceptions. If the network itself is at fault, the real run fails too.
            real = copy.deepcopy(net).to(device).train()
            return _run(real, [torch.zeros(*shape, device=device, dtype=dtype) for shape in shapes], amp)


def _run(net: nn.Module, views: Sequence[Tensor], amp: torch.dtype | None) -> Cost:
    fixed = {_storage(tensor) for tensor in (*net.parameters(), *net.buffers())}
    held: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The storage itself is kept too: the next one could get the address of a freed one.
        held[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(views[0].device.type, dtype=amp, enabled=amp is not None),
    ):
        macs = count_macs(lambda: net(views[0] if len(views) == 1 else views))
    return Cost(macs, sum(storage.nbytes() for at, storage in held.items() if at not in fixed))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
