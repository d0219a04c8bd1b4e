"""Time every method's own share of a training step: its loss and the gradients at the output boundary.

    python docs/methods/measure_cost.py

One CPU thread, fp32; 4 students, a batch of 128, 100 classes, feature width 64, trunk width 32 (branch-based ResNet-32
on CIFAR-100). The least of 20 repetitions counts, since other programs can only add to a time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch

import codistill
from codistill.methods import METHODS
from codistill.types import GroupShape, PeerOutputs, Progress

P, B, C, D, TRUNK = 4, 128, 100, 64, 32


def main() -> None:
    """Print milliseconds a step, and what the networks themselves take."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    labels_B = torch.randint(C, (B,), generator=draw)
    for name in METHODS:
        peers = 1 if name == "baseline" else P
        shape = GroupShape(peers, C, (D,) * peers, TRUNK, shares_trunk=True, teachers=int(name == "kd"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            method = codistill.methods.build(name, shape, generator=draw)
        outputs = PeerOutputs(
            3 * torch.randn(peers, B, C, generator=draw),
            tuple(torch.randn(B, D, generator=draw) for _ in range(peers)),
            torch.randn(B, TRUNK, generator=draw),
            3 * torch.randn(1, B, C, generator=draw) if name == "kd" else None,
        ).at_boundary()
        print(f"{name:14} {1000 * least(lambda m=method, o=outputs: step(m, o, labels_B), 20):8.2f} ms")
    images = torch.randn(B, 3, 32, 32, generator=draw)
    net = codistill.models.build("resnet32", C, generator=draw)
    seconds = least(lambda: net(images).sum().backward(), 3)
    print(f"one ResNet-32, forward and backward: {1000 * seconds:.0f} ms; four: {4000 * seconds:.0f} ms")


def step(method: codistill.methods.Method, outputs: PeerOutputs, labels_B: torch.Tensor) -> None:
    """One loss and its gradients."""
    method(outputs, labels_B, Progress(5, 10)).loss.backward()


def least(work: Callable[[], None], repetitions: int) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions + 1):  # The first one warms up.
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


if __name__ == "__main__":
    main()
