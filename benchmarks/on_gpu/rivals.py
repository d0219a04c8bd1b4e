"""Other ways to train several networks on one GPU: a stream for each, torch.func's vmap, and plain torch for one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from codistill.execution import LoopExecutor
from codistill.execution.replay import WARM_UP
from codistill.types import PeerOutputs
from ratios.steps import Size

__all__ = ["StreamsExecutor", "hand_written_step", "stacked_step"]

Step = Callable[[], None]


class StreamsExecutor(LoopExecutor):
    """`loop` with each peer on a CUDA stream of its own, forked from the current stream and joined to it.

    Backward runs on the streams of the forward pass, and autograd joins them.
    """

    name = "streams"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        device = next(self.group.parameters()).device
        peers = self.group.shape.peers if device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(device) for _ in range(peers)]

    def _run(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        if not self._streams:
            return super()._run(views)
        here, outputs = torch.cuda.current_stream(self._streams[0].device), []
        for peer, view in enumerate(self.group.view_of_each(views)):
            self._streams[peer].wait_stream(here)
            with torch.cuda.stream(self._streams[peer]):
                outputs.append(self.group.run_peer(peer, view))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        for stream in self._streams:
            here.wait_stream(stream)
        return PeerOutputs.stack(outputs)


def stacked_step(size: Size, peers: int, device: torch.device, amp: torch.dtype | None, graph: bool) -> Step:
    """Return a step of `peers` networks by vmap over their stacked parameters.

    The running statistics of batch norm are stacked too, so that vmap can update them in place, as in training alone.
    Under autocast, batch norm gets float32 images: vmap's does not take bfloat16 with statistics in float32.
    """
    networks = [size.make(size.classes, size.image[0]).to(device).train() for _ in range(peers)]
    parameters, buffers = stack_module_state(networks)
    plain = copy.deepcopy(networks[0]).to("meta")
    for module in plain.modules():
        if amp is not None and isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, given: (given[0].float(),))

    def forward(own: dict[str, Tensor], statistics: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(plain, (own, statistics), (images,))

    of_all = vmap(forward, in_dims=(0, 0, None), randomness="different")

    def loss(images: Tensor, labels_B: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            logits_PBC = of_all(parameters, buffers, images)
        logits = logits_PBC.flatten(0, 1).float()
        return peers * functional.cross_entropy(logits, labels_B.repeat(peers))

    return _step(loss, parameters.values(), size, device, graph)


def hand_written_step(size: Size, device: torch.device, amp: torch.dtype | None, graph: bool) -> Step:
    """Return a step of one network as one writes it in plain torch, without this library."""
    network = size.make(size.classes, size.image[0]).to(device).train()

    def loss(images: Tensor, labels_B: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            logits_BC = network(images)
        return functional.cross_entropy(logits_BC.float(), labels_B)

    return _step(loss, network.parameters(), size, device, graph)


def _step(
    loss: Callable[[Tensor, Tensor], Tensor],
    parameters: Iterable[nn.Parameter | Tensor],
    size: Size,
    device: torch.device,
    graph: bool,
) -> Step:
    """Zero the gradients, forward, backward, fused SGD; with a graph, copy the batch in and replay."""
    own = torch.Generator().manual_seed(0)
    # The optimizer of a run.
    optimizer = torch.optim.SGD(list(parameters), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    images = torch.randn(size.batch, *size.image, generator=own).to(device)
    labels_B = torch.randint(size.classes, (size.batch,), generator=own).to(device)
    given, given_B = images.clone(), labels_B.clone()

    def take() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(given, given_B).backward()
        optimizer.step()

    if not graph or device.type != "cuda":
        return take
    recorded = _recorded(take, device)

    def replay() -> None:
        given.copy_(images)
        given_B.copy_(labels_B)
        recorded.replay()

    return replay


def _recorded(take: Step, device: torch.device) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            take()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        take()
    return graph
