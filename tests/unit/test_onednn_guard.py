"""Convolutions that one of the CPU's kernels gets wrong never reach it, and stay the same function."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from codistill import execution, methods
from codistill.execution.onednn_guard import safe_convolutions
from codistill.models import build
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import Progress


class Seen(TorchFunctionMode):
    """Keeps weight shape and stride of every convolution in one group that is run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[int, ...], Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d and args[6] == 1:
            self.calls.append((tuple(args[1].shape), args[3]))
        return func(*args, **(kwargs or {}))

    @property
    def strided_points(self) -> list[tuple[int, ...]]:
        return [shape for shape, stride in self.calls if shape[2:] == (1, 1) and stride not in (1, (1, 1))]


def _network(peer: int) -> nn.Module:
    return build("resnet8_tiny", 3, 1, generator=torch.Generator().manual_seed(peer))


@pytest.mark.parametrize("name", ["loop", "recompute", "fused"])
@pytest.mark.parametrize("branches", [False, True])
def test_no_executor_runs_a_strided_point_of_few_channels(name: str, branches: bool) -> None:
    group = BranchedGroup(_network(0), 2, "layer3") if branches else NetworkGroup([_network(0), _network(1)])
    executor = execution.build(name, group.train(), methods.build("ind", group))
    images, labels_B = torch.randn(4, 1, 12, 12), torch.tensor([0, 1, 2, 0])
    with Seen() as seen:
        executor.train_step(images, labels_B, Progress(0, 1))
    # Those of 24 channels are left as they are.
    assert bool(seen.calls) == (branches or name != "fused")
    assert all(shape[1] >= 16 for shape in seen.strided_points)


@pytest.mark.parametrize(
    "run",
    [
        nn.Conv2d(4, 4, 1, 2, padding="valid"),
        lambda x: F.conv2d(x, torch.ones(4, 4, 1, 1), None, stride=2),
        lambda x: F.conv2d(input=x, weight=torch.ones(4, 4, 1, 1), stride=(2, 2)),
    ],
    ids=["valid", "keyword", "keywords"],
)
def test_every_spelling_of_the_call_is_known(run: Any) -> None:
    with Seen() as seen, safe_convolutions(nn.Conv2d(4, 4, 1, 2)):
        assert run(torch.randn(2, 4, 8, 8)).shape == (2, 4, 4, 4)
    assert [stride for _, stride in seen.calls] == [1]


@pytest.mark.parametrize("stride", [2, (2, 2), (1, 3)])
def test_the_function_and_its_gradients_stay_the_same(stride: int | tuple[int, int]) -> None:
    layer = nn.Conv2d(5, 7, 1, stride).double()
    images = torch.randn(2, 5, 9, 10, dtype=torch.float64, requires_grad=True)
    results = []
    for scope in (torch.enable_grad(), safe_convolutions(layer)):
        with scope:
            output = layer(images)
        gradients = torch.autograd.grad(output.square().sum(), [images, *layer.parameters()])
        results.append((output, *gradients))
    for plain, safe in zip(*results, strict=True):
        torch.testing.assert_close(safe, plain, rtol=1e-12, atol=1e-12)


def test_other_convolutions_are_left_alone() -> None:
    layers = [nn.Conv2d(16, 4, 1, 2), nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1, 2, padding=1), nn.Conv2d(4, 4, 1)]
    risky = nn.Conv2d(4, 4, 1, 2)
    with Seen() as seen, safe_convolutions(risky):
        for layer in layers:
            layer(torch.randn(2, layer.in_channels, 8, 8))
    assert [stride for _, stride in seen.calls] == [layer.stride for layer in layers]


def test_convolutions_in_groups_take_another_kernel() -> None:
    grouped = nn.Conv2d(8, 8, 1, 2, groups=2)
    assert isinstance(safe_convolutions(grouped), nullcontext)
    assert not isinstance(safe_convolutions(grouped, nn.Conv2d(8, 8, 1, 2)), nullcontext)


def test_a_network_without_such_layers_runs_as_it_is() -> None:
    with Seen() as seen, safe_convolutions(nn.Sequential(nn.Conv2d(16, 4, 1, 2))):
        nn.Conv2d(4, 4, 1, 2)(torch.randn(2, 4, 8, 8))
    assert seen.strided_points
