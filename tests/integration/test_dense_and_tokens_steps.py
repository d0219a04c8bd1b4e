"""Steps of the executors on networks whose outputs have positions, their layout, and the two examples."""

from __future__ import annotations

import re

import pytest
import torch
from dense_tasks import LANGUAGE, MIDDLE, SEGMENTATION, Task, gradients, language, seeded, segmentation
from torch import Tensor, nn

from codistill import methods
from codistill.errors import UserError
from codistill.execution import build, lay_out
from codistill.peers import NetworkGroup


@pytest.fixture(scope="module", params=[segmentation, language], ids=["segmentation", "language"])
def task(request) -> Task:
    return request.param()


@pytest.fixture(scope="module")
def words() -> Task:
    return language()


@pytest.fixture(scope="module")
def pixels() -> Task:
    return segmentation()


def stepped(kind: str, task: Task, weights: Tensor | None) -> tuple[Tensor, list[Tensor | None], list[Tensor]]:
    """Loss, gradients and buffers (running statistics) of one step."""
    group = task.group().train()
    method = seeded("okddip", group)
    executor = build(kind, group, method)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        step, _ = executor.train_step(
            task.inputs, task.labels, MIDDLE, sample_weights=weights, ignore_index=task.ignore_index
        )
    return step.loss.detach(), gradients(group, method), list(group.buffers())


def test_a_step_of_the_loop_is_the_users_own(task):
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5])
    loss, found, _ = stepped("loop", task, weights)
    group = task.group().train()
    method = seeded("okddip", group)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = method(group(task.inputs), task.labels, MIDDLE, weights, task.ignore_index)
    own.loss.backward()
    assert torch.equal(loss, own.loss)
    for ours, theirs in zip(found, gradients(group, method), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    plain, *_ = stepped("loop", task, None)
    assert float((plain - loss).abs()) > 1e-4


def test_recompute_equals_the_loop_to_the_bit(task):
    (loss, *found), (again, *recomputed) = stepped("loop", task, None), stepped("recompute", task, None)
    assert torch.equal(loss, again)
    for ours, theirs in zip(found, recomputed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_recompute_takes_micro_batches_of_texts(words):
    # Without dropout, whose masks are drawn in another order.
    group = words.group(2).eval()
    method, losses = methods.build("dml", group), []
    for kind, options in (("loop", {}), ("recompute", {"micro_batch": 2})):
        group.zero_grad()
        step, _ = build(kind, group, method, **options).train_step(words.inputs, words.labels, MIDDLE)
        losses.append((step.loss.detach(), gradients(group)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)


class Pooled(nn.Module):
    """One row per image, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(x).mean((2, 3))}


def test_executors_for_images_refuse_positions(pixels, words):
    method = methods.build("dml", pixels.group(2))
    with pytest.raises(UserError) as refused:
        build("fused", pixels.group(2), method)
    assert str(refused.value) == (
        "executor 'fused' cannot fuse networks with logits that have positions: it takes networks that make logits "
        "[B, C] of images; use the executor 'loop'."
    )
    with pytest.raises(UserError, match=r"'fused' cannot fuse networks with inputs of torch.int64: it takes"):
        build("fused", words.group(2), method)
    named = NetworkGroup([Pooled(), Pooled()], example=torch.zeros(2, 3, 4, 4), output="out")
    with pytest.raises(UserError, match="'fused' cannot fuse networks with the output 'out': it takes"):
        build("fused", named, methods.build("dml", named))


def test_the_choice_by_trial_takes_the_loop(words):
    group = words.group(2)
    executor = build("auto", group, methods.build("dml", group), deterministic=True)
    chosen, trial = executor.settled(words.inputs, words.labels, MIDDLE)
    assert chosen.name == trial.chosen == "loop"


def test_the_channels_last_layout_leaves_token_networks_alone(words):
    group = words.group(1).eval()
    before, strides = group(words.inputs).logits_PBC, [p.stride() for p in group.parameters()]
    assert lay_out(group, group.image_shape) is False
    assert [p.stride() for p in group.parameters()] == strides
    assert torch.equal(group(words.inputs).logits_PBC, before)


def test_the_channels_last_layout_changes_segmentation_by_rounding_only(pixels):
    group = pixels.group(1).eval()
    before = group(pixels.inputs).logits_PBC
    assert lay_out(group, (3, 64, 64)) is True
    torch.testing.assert_close(group(pixels.inputs).logits_PBC, before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("file", "size"), [(SEGMENTATION, {"count": 16}), (LANGUAGE, {"steps": 3})])
def test_an_example_prints_loss_and_accuracies(file, size, capsys):
    with torch.random.fork_rng():
        file.main(epochs=2, **size)
    *epochs, last = capsys.readouterr().out.splitlines()
    losses = [float(re.search(r"loss ([\d.]+)", line)[1]) for line in epochs]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    accuracies = [float(value) for line in [*epochs, last] for value in re.findall(r"([\d.]+) %", line)]
    assert all(0 <= value <= 100 for value in accuracies)
    assert last.startswith(("student: LRASPP", "student: GPT2LMHeadModel"))
