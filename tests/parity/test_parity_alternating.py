"""DML's alternating updates against slow turns: networks of one matrix, momentum and weight decay by hand, float64."""

from __future__ import annotations

import pytest
import reference
import torch
from torch import Tensor, nn

from codistill import methods
from codistill.execution import LoopExecutor
from codistill.peers import NetworkGroup
from codistill.types import Progress

C, B, LR, MOMENTUM, DECAY = 4, 3, 0.5, 0.9, 0.01


def case(soft: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Images [B, 3, 2, 2], labels (smoothed ones where `soft`) and one matrix [C, 12] a student."""
    g = torch.Generator().manual_seed(60)
    images = torch.randn(B, 3, 2, 2, generator=g, dtype=torch.float64)
    labels = torch.randint(C, (B,), generator=g)
    matrices = [torch.randn(C, 12, generator=g, dtype=torch.float64) for _ in range(3)]
    if not soft:
        return images, labels, matrices
    smooth = torch.nn.functional.one_hot(labels, C).double() * 0.8 + 0.05
    smooth[1] = torch.tensor([0.25, 0.0, 0.75, 0.0])
    return images, smooth, matrices


def library_turns(images: Tensor, labels: Tensor, matrices: list[Tensor], rounds: int, **options) -> list[Tensor]:
    """The matrices after rounds of the training loop's own turns."""
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(12, C, bias=False)).double() for _ in matrices]
    with torch.no_grad():
        for net, W in zip(networks, matrices, strict=True):
            net[1].weight.copy_(W)
    group = NetworkGroup(networks, example=images)
    method = methods.build("dml", group, updates="alternating", **options)
    executor = LoopExecutor(group, method)
    optimizer = torch.optim.SGD(group.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for _ in range(rounds):
        for i in range(len(networks)):
            optimizer.zero_grad(set_to_none=True)
            executor.train_step(images, labels, Progress(0, 1), turn=i)
            optimizer.step()
    return [net[1].weight.detach() for net in networks]


def slow_turns(
    images: Tensor,
    labels: Tensor,
    matrices: list[Tensor],
    rounds: int,
    temperature: float,
    target: str,
    options: reference.Target,
) -> list[Tensor]:
    """The paper's algorithm: all predict, student i moves along its own L_i; all predict again, student i + 1 moves."""
    rows = [list(x.flatten()) for x in images]
    y = [labels[n] if labels.is_floating_point() else int(labels[n]) for n in range(B)]
    W = [[[float(v) for v in row] for row in matrix] for matrix in matrices]
    velocity = [[[0.0] * 12 for _ in range(C)] for _ in W]
    for _ in range(rounds):
        for i in range(len(W)):
            z = [[[sum(w * x for w, x in zip(row, xs, strict=True)) for row in M] for xs in rows] for M in W]
            leaves = [[torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in zi] for zi in z]
            loss_i = reference.dml(leaves, y, [1.0] * B, temperature, target, options).loss_by_peer[i]
            slopes = torch.autograd.grad(loss_i, leaves[i])
            for c in range(C):
                for d in range(12):
                    g = sum(float(slopes[n][c]) * float(rows[n][d]) for n in range(B))
                    velocity[i][c][d] = MOMENTUM * velocity[i][c][d] + g + DECAY * W[i][c][d]
                    W[i][c][d] -= LR * velocity[i][c][d]
    return [torch.tensor(M, dtype=torch.float64) for M in W]


@pytest.mark.parametrize("soft", [False, True], ids=["class indices", "probabilities"])
@pytest.mark.parametrize(
    ("target", "temperature", "options"),
    [
        ("pairwise", 1.0, {}),
        ("mean", 3.0, {}),
        # A target reads the others only, so with "all" a student's own step is the same: the others do not move.
        ("pairwise", 2.0, {"gradient": "all", "target_epsilon": 0.01}),
        ("mean", 3.0, {"aggregate": "logits", "gradient": "all", "target_epsilon": 1e-7}),
    ],
    ids=str,
)
def test_alternating_updates_agree(target: str, temperature: float, options: dict, soft: bool) -> None:
    images, labels, matrices = case(soft)
    ours = library_turns(images, labels, matrices, 2, target=target, temperature=temperature, **options)
    theirs = slow_turns(images, labels, matrices, 2, temperature, target, reference.Target(**options))
    for mine, other, start in zip(ours, theirs, matrices, strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-12)
        assert (mine - start).abs().max() > 0.1
