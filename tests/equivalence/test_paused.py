"""Students that a step does not move keep parameters and optimizer state to the bit; the trunk moves by the others."""

import copy

import pytest
import torch

import probes
from codistill import methods
from codistill.execution import build
from codistill.types import Progress, StepOutput

HALF = Progress(5, 10)
EXACT = {"rtol": 1e-9, "atol": 1e-12}

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


def snapshot(optimizer, parameters):
    return [
        (p.detach().clone(), copy.deepcopy(optimizer.state[p]) if p in optimizer.state else None) for p in parameters
    ]


def same(found, expected):
    pairs = zip(found, expected, strict=True)
    return [
        torch.equal(a, b)
        and (s is None) == (t is None)
        and (s is None or all(torch.equal(s[k], t[k]) for k in t if t[k] is not None))
        for (a, s), (b, t) in pairs
    ]


class Chosen(methods.Method):
    """Moves the peers in `moved`; mixes where asked to."""

    def __init__(self, shape, moved, needs=None):
        type(self).needs = needs or methods.Needs()
        super().__init__(shape)
        self.moved = torch.tensor([peer in moved for peer in range(shape.peers)])

    def step(self, rows, progress):
        ce_P = rows.cross_entropy_P()
        others = [*rows.heads.values(), *([] if rows.mixed_NC is None else [rows.mixed_NC])]
        loss = ce_P.sum() + sum(logits.square().mean() for logits in others)
        return StepOutput(loss, ce_P, {}, update_P=self.moved)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("executor", ["loop", "recompute", "fused"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
def test_paused_students_keep_parameters_and_optimizer_state_to_the_bit(kind, optimizer, executor, accumulate, mixed):
    if (kind, executor) == ("tree", "fused") or (accumulate and optimizer != "momentum"):
        return
    group = probes.group_of(kind)
    needs = methods.Needs(mixed=mixed)
    if executor != "fused":
        needs = methods.Needs(mixed=mixed, heads=("stage2",))
        group.provide(needs)
    method = Chosen(group.shape, range(probes.PEERS), needs)
    executor = build(executor, group, method)
    executor.train()
    optimizer = OPTIMIZERS[optimizer](executor.parameters())
    (view,), labels = probes.batch_of()
    executor.train_step(view, labels, HALF)
    optimizer.step()
    # Peers 0 and 1 pause: in the tree the part that only these two share pauses with them.
    if not accumulate:
        optimizer.zero_grad()
    before_grad = {id(p): None if p.grad is None else p.grad.clone() for p in group.parameters()}
    still, own = group.owned_parameters([0, 1]), group.owned_parameters([2, 3])
    trunk = [p for p in group.parameters() if not any(p is q for q in (*still, *own))]
    assert len(still) > 0
    assert bool(trunk) == (kind != "networks")
    befores = [snapshot(optimizer, part) for part in (still, own, trunk)]
    method.moved = torch.tensor([False, False, True, True])
    executor.train_step(view, labels, HALF)
    for p in still:
        assert p.grad is None if before_grad[id(p)] is None else torch.equal(p.grad, before_grad[id(p)])
    if accumulate:
        return
    optimizer.step()
    assert all(same(snapshot(optimizer, still), befores[0]))
    assert not any(same(snapshot(optimizer, own), befores[1]))
    assert not any(same(snapshot(optimizer, trunk), befores[2]))


@pytest.mark.parametrize("kind", ["branches", "tree"])
def test_the_trunk_moves_by_the_moved_branches_only(kind):
    (view,), labels = probes.batch_of()
    found = []
    for paused in (True, False):
        group = probes.group_of(kind)
        method = Chosen(group.shape, [2, 3] if paused else range(probes.PEERS))
        if not paused:
            method.step = lambda rows, progress: StepOutput(
                rows.cross_entropy_P()[2:].sum(), rows.cross_entropy_P(), {}
            )
        build("loop", group, method).train_step(view, labels, HALF)
        found.append([p.grad.clone() for p in group.trunk.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **EXACT)
        assert a.abs().max() > 0 or a.ndim == 1


def test_a_step_that_moves_nobody_moves_nothing():
    group = probes.group_of("branches")
    (view,), labels = probes.batch_of()
    build("loop", group, Chosen(group.shape, [])).train_step(view, labels, HALF)
    assert all(p.grad is None for p in group.parameters())


def test_a_student_whose_turn_it_is_may_pause_too():
    group = probes.group_of("networks")
    (view,), labels = probes.batch_of()
    executor = build("loop", group, Chosen(group.shape, [1]))
    executor.train_step(view, labels, HALF, turn=0)
    assert all(p.grad is None for p in group.parameters())
    executor.train_step(view, labels, HALF, turn=1)
    moved = [p.grad is not None for p in group.parameters()]
    assert moved == [peer == 1 for peer in range(probes.PEERS) for _ in group.networks[peer].parameters()]
