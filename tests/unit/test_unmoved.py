"""A method's parameters that the optimizer never got are noticed, and only these."""

import warnings

import pytest
import torch

import probes
from codistill import methods
from codistill.execution import build
from codistill.methods import METHODS
from codistill.peers import NetworkGroup
from codistill.types import Progress

HALF = Progress(5, 10)
STEPS = 60


def linear_group(peers=4):
    nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)) for _ in range(peers)]
    return NetworkGroup(nets, example=torch.zeros(2, 3, 2, 2))


def steps(executor, optimizer, count=STEPS, every=1):
    x, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    for step in range(count):
        executor.train_step(x, labels, HALF)
        if (step + 1) % every == 0:
            optimizer.step()
            optimizer.zero_grad()


def okddip():
    group = linear_group()
    return group, methods.build("okddip", group, generator=torch.Generator().manual_seed(0))


def test_forgotten_parameters_are_noticed_once_after_fifty_steps():
    group, method = okddip()
    optimizer = torch.optim.SGD(group.parameters(), lr=0.01)
    executor = build("loop", group, method)
    steps(executor, optimizer, 51)
    with pytest.warns(UserWarning, match="the parameters of OKDDip have not changed for 50 steps, though they") as seen:
        steps(executor, optimizer, 60)
    assert len(seen) == 1
    assert "give method.parameters() to the optimizer, next to group.parameters()" in str(seen[0].message)


def test_the_warning_points_at_the_step_of_the_loop_that_calls_the_method():
    group, method = okddip()
    optimizer = torch.optim.SGD(group.parameters(), lr=0.01)
    x, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])

    def own_loop():
        for _ in range(STEPS):
            optimizer.zero_grad()
            method(group(x), labels, HALF).loss.backward()
            optimizer.step()

    with pytest.warns(UserWarning, match="OKDDip") as seen:
        own_loop()
    assert seen[0].filename == __file__


def own_loop(group, method, optimizers, count, every=1):
    x, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    for step in range(count):
        method(group(x), labels, HALF).loss.backward()
        if (step + 1) % every == 0:
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()


def test_two_steps_that_move_the_students_alone_are_enough():
    group, method = okddip()
    with pytest.warns(UserWarning, match="OKDDip have not changed in 2 steps that moved the students, though") as seen:
        own_loop(group, method, [torch.optim.SGD(group.parameters(), lr=0.01)], 3)
    own_loop(group, method, [torch.optim.SGD(group.parameters(), lr=0.01)], 3 * STEPS)
    assert len(seen) == 1


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("of_method", ["one for all", "its own", "its own, writing to data"])
def test_no_alarm_in_an_own_loop_where_the_method_moves_too(of_method, every):
    group, method = okddip()
    optimizers = [torch.optim.AdamW(group.parameters(), lr=0.01)]
    if of_method == "one for all":
        optimizers[0].add_param_group({"params": list(method.parameters())})
    elif of_method == "its own":
        optimizers.append(torch.optim.SGD(method.parameters(), lr=0.01))
    else:
        optimizers.append(OldStyle(method.parameters()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own_loop(group, method, optimizers, STEPS, every)


class OldStyle:
    """An optimizer that writes to `p.data`, as many older ones do; like Adam, it moves by the sign of the gradient.

    The attention's gradients are so small here that a step along them could vanish in rounding.
    """

    def __init__(self, parameters):
        self.parameters = list(parameters)

    def step(self):
        for p in self.parameters:
            if p.grad is not None:
                p.data.add_(p.grad.sign(), alpha=-0.01)

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None if p.grad is None else p.grad.zero_()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.01),
        lambda p: torch.optim.SGD(p, lr=0.01, foreach=True),
        lambda p: torch.optim.SGD(p, lr=0.01, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
        OldStyle,
    ],
    ids=["sgd", "foreach", "fused", "adamw foreach", "adamw fused", "data"],
)
@pytest.mark.parametrize("every", [1, 4])
def test_no_alarm_where_the_parameters_move(make, every):
    group, method = okddip()
    executor = build("loop", group, method)
    optimizer = make([*group.parameters(), *method.parameters()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(executor, optimizer, every=every)


def test_no_alarm_for_frozen_parameters():
    group, method = okddip()
    executor = build("loop", group, method)
    optimizer = torch.optim.SGD(executor.parameters(), lr=0.01)
    steps(executor, optimizer, 3)
    executor.train_step(torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3]), HALF)
    method.requires_grad_(False)
    assert any(p.grad is not None for p in method.parameters())
    steps(executor, torch.optim.SGD(group.parameters(), lr=0.01), 3 * STEPS)


def test_no_alarm_from_losses_that_are_only_looked_at():
    group, method = okddip()
    executor = build("loop", group, method)
    x, labels = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    executor.train_step(x, labels, HALF)
    with torch.no_grad():
        for _ in range(3 * STEPS):
            method(executor.forward(x), labels, HALF)


def test_parameters_that_are_frozen_or_freed_in_between_are_no_forgotten_ones():
    group, method = okddip()
    *_, last = method.parameters()
    optimizer = torch.optim.SGD(group.parameters(), lr=0.01)
    own_loop(group, method, [optimizer], 1)
    last.requires_grad_(False)
    own_loop(group, method, [optimizer], 3)


def with_parameters():
    found = []
    for name in METHODS:
        for kind in ("networks", "branches"):
            try:
                method = methods.build(name, probes.group_of(kind))
            except methods.base.UserError:
                continue
            if list(method.parameters()):
                found.append((name, kind))
                break
    return found


@pytest.mark.parametrize(("name", "kind"), with_parameters())
def test_no_alarm_from_a_method_of_the_library(name, kind):
    group = probes.group_of(kind)
    method = methods.build(name, group).double()
    executor = build("loop", group, method)
    optimizer = torch.optim.SGD(executor.parameters(), lr=1e-3)
    (view,), labels = probes.batch_of()
    for step in range(STEPS):
        executor.train_step(view, labels, HALF)
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    assert any(p.grad is not None for p in method.parameters())
