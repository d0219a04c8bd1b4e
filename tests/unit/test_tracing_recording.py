"""What a trace would lose is refused by name; the networks themselves still train one after the other."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codistill import methods
from codistill.errors import UserError
from codistill.execution import FusedExecutor, LoopExecutor
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import Progress


class Net(nn.Module):
    """Two layers and a classifier, with room for mischief between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.count = 0
        self.kept: Any = None
        self.seen: list[Tensor] = []
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.between(self.first(x))).relu())

    def between(self, x: Tensor) -> Tensor:
        return x


class WithoutGradient(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x)
        return self.fc(self.second(x).relu())


class Precise(Net):
    def between(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.relu(x)


class PythonRandom(Net):
    def between(self, x: Tensor) -> Tensor:
        return x if random.random() < 2 else 2 * x


class TorchRandom(Net):
    def between(self, x: Tensor) -> Tensor:
        return x + torch.randn(4)


class Counts(Net):
    def between(self, x: Tensor) -> Tensor:
        self.count += 1
        return x


class Averages(Net):
    def between(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9)
        return x


class Keeps(Net):
    def between(self, x: Tensor) -> Tensor:
        self.kept = x
        return x


class Collects(Net):
    def between(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


class OwnTrain(Net):
    def train(self, mode: bool = True) -> OwnTrain:
        return super().train(mode)


class Caches(Net):
    """Makes a constant once: no state."""

    def between(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.ones(4)
        return x + self.kept


class SetsAlike(Net):
    """Sets attributes to what they are: no change."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.device = float("nan"), torch.device("cpu")

    def between(self, x: Tensor) -> Tensor:
        self.device = torch.device("cpu")
        return x


def hooked() -> Net:
    net = Net()
    net.register_forward_pre_hook(_double)
    return net


def patched() -> Net:
    net = Net()
    net.forward = partial(Net.forward, net)  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _double(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (2 * args[0],)


LOSSES = [
    (WithoutGradient, "switches gradients or precision around 'first'"),
    (Precise, "switches gradients or precision around"),
    (PythonRandom, "draws random numbers without its input"),
    (TorchRandom, "draws random numbers without its input"),
    (Counts, "changes 'count' as it runs"),
    (Averages, "changes 'mean' as it runs"),
    (Keeps, "changes 'kept' as it runs"),
    (Collects, "changes 'seen' as it runs"),
    (OwnTrain, r"OwnTrain overrides train\(\)"),
    (hooked, "Net has hooks"),
    (patched, "Net has hooks or a forward of its own"),
]


@pytest.mark.parametrize(("make", "reason"), LOSSES)
def test_branches_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(UserError, match=f"split 'second': torch.fx cannot trace .*{reason}.* or remove that"):
        BranchedGroup(make(), 2, "second", example=torch.zeros(2, 4))


@pytest.mark.parametrize(("make", "reason"), LOSSES)
def test_fusing_is_refused(make: Any, reason: str) -> None:
    group = NetworkGroup([make(), make()], example=torch.zeros(2, 4))
    with pytest.raises(UserError, match=f"torch.fx cannot trace .*{reason}"):
        FusedExecutor(group, methods.build("ind", group))


@pytest.mark.parametrize("make", [make for make, _ in LOSSES])
def test_the_networks_themselves_train(make: Any) -> None:
    group = NetworkGroup([make(), make()], example=torch.zeros(2, 4))
    executor = LoopExecutor(group.train(), methods.build("ind", group))
    executor.train_step(torch.randn(2, 4), torch.tensor([0, 2]), Progress(0, 1))
    assert all(net.fc.weight.grad is not None for net in group.networks)


def test_groups_are_built_in_inference_mode_too() -> None:
    with torch.inference_mode():
        assert BranchedGroup(Net(), 2, "second", example=torch.zeros(2, 4)).shape.peers == 2
        assert NetworkGroup([Net(), Net()], example=torch.zeros(2, 4)).shape.peers == 2


def test_a_hook_on_a_layer_is_refused_where_the_layer_is_replaced_and_kept_where_it_is_not() -> None:
    nets = [Net(), Net()]
    for net in nets:
        net.second.register_forward_pre_hook(_double)
    group = NetworkGroup(nets, example=torch.zeros(2, 4))
    with pytest.raises(UserError, match=r"cannot fuse the layer 'second' \(Linear\)"):
        FusedExecutor(group, methods.build("ind", group))
    plain, images = nets[0], torch.randn(2, 4)
    branches = BranchedGroup(plain, 2, "second", example=images).eval()
    student = branches.student(1)
    torch.testing.assert_close(branches(images).logits_PBC[1], student(images))
    student.second._forward_pre_hooks.clear()
    assert not torch.equal(branches(images).logits_PBC[1], student(images))


@pytest.mark.parametrize("make", [Caches, SetsAlike])
def test_what_stays_the_same_after_its_first_use_is_no_state(make: Any) -> None:
    net, images = make(), torch.randn(2, 4)
    branches = BranchedGroup(net, 2, "second", example=images).eval()
    torch.testing.assert_close(branches(images).logits_PBC[0], branches.student(0)(images))
