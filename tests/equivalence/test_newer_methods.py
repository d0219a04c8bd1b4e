"""Averaged peers (pcl) and paused peers (switokd) are the same under every executor, in real training steps."""

import copy

import pytest
import torch

from codistill import methods, models
from codistill.config import OptimConfig
from codistill.execution import FusedExecutor, LoopExecutor, RecomputeExecutor
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.training.optimizer import make_optimizer
from codistill.types import Progress

CLASSES, BATCH, DECAY = 4, 8, 0.6
EXECUTORS = [LoopExecutor, RecomputeExecutor, FusedExecutor]
IMAGES = torch.randn(4, 3, BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # by step
LABELS = torch.randint(CLASSES, (4, BATCH), generator=torch.Generator().manual_seed(2))


def networks(count, name="resnet8_tiny"):
    nets = [models.build(name, CLASSES, 1, generator=torch.Generator().manual_seed(p)) for p in range(count)]
    return NetworkGroup(nets).double()


def branches():
    generator = torch.Generator().manual_seed(0)
    net = models.build("resnet8_tiny", CLASSES, 1, generator=generator)
    return BranchedGroup(net, branches=3, generator=generator).double()


def pair():
    """Two networks that are sure of what they say, so that the one that is right is far ahead."""
    group = networks(2)
    with torch.no_grad():
        for net in group.networks:
            net.fc.weight.mul_(8)
    return group


def sgd(executor):
    return torch.optim.SGD(executor.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-3)


@torch.no_grad()
def right_is(group, peer, images):
    """Labels that make this network right in every image of a training step."""
    return copy.deepcopy(group).train()(images).logits_PBC[peer].argmax(-1)


def one_step(executor, optimizer, views, labels):
    optimizer.zero_grad(set_to_none=True)
    step, outputs = executor.train_step(views, labels, Progress(5, 10))
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in executor.group.named_parameters()}
    optimizer.step()
    executor.after_step()
    return step, outputs, gradients


def train(executor_class, group, name, **options):
    """Four steps with one view per student; all that the last one gives, and all state."""
    method = methods.build(name, group, generator=torch.Generator().manual_seed(5), **options).double()
    executor = executor_class(group.train(), method)
    optimizer, steps = sgd(executor), []
    for images, labels_B in zip(IMAGES, LABELS, strict=True):
        if name == "switokd":
            labels_B = right_is(group, len(steps) % 2, images[0])
        views = images[0] if name == "switokd" else list(images)
        step, outputs, gradients = one_step(executor, optimizer, views, labels_B)
        steps.append(step)
    found = {"loss": step.loss.detach(), "by peer": step.loss_by_peer.detach(), "logits": outputs.logits_PBC.detach()}
    found |= {f"gradient {k}": g for k, g in gradients.items() if g is not None}
    found |= {f"{kind} {k}": v for kind, part in executor.modules().items() for k, v in part.state_dict().items()}
    group.eval()
    predicted = executor.predict(IMAGES[0, 0])
    found |= {"predicted": predicted.logits_PBC, "own": method.own_ensemble(predicted)}
    executor.close()
    return {k: v for k, v in found.items() if v is not None}, steps


CASES = [
    (LoopExecutor, RecomputeExecutor, networks, "pcl"),
    (LoopExecutor, FusedExecutor, networks, "pcl"),
    (LoopExecutor, RecomputeExecutor, branches, "pcl"),
    (LoopExecutor, FusedExecutor, branches, "pcl"),
    (LoopExecutor, RecomputeExecutor, pair, "switokd"),
    (LoopExecutor, FusedExecutor, pair, "switokd"),
]


@pytest.mark.parametrize(("plain", "other", "make", "name"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_losses_gradients_statistics_and_averages_are_those_of_the_loop(plain, other, make, name):
    group = (lambda: networks(3)) if make is networks else make
    options = {"decay": DECAY} if name == "pcl" else {}
    (expected, _), (found, steps) = train(plain, group(), name, **options), train(other, group(), name, **options)
    assert found.keys() == expected.keys()
    assert any("running_mean" in key for key in found)
    assert any(key.startswith("averages ") for key in found) == (name == "pcl")
    exact = other is RecomputeExecutor
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key],
            value,
            rtol=0 if exact else 1e-7,
            atol=0 if exact else 1e-9,
            msg=lambda text, k=key: f"{k} {text}",
        )
    if name == "switokd":
        assert [step.diagnostics["paused"].item() for step in steps] == [1, 0, 1, 0]


@pytest.mark.parametrize("executor_class", EXECUTORS)
def test_the_averages_that_teach_pcl_are_those_of_the_equation_and_are_what_is_predicted(executor_class):
    group = networks(3)
    executor = executor_class(group.train(), methods.build("pcl", group, decay=DECAY).double())
    optimizer, averages = sgd(executor), copy.deepcopy(group).eval()
    # δ = min(1 - 1/(t + 1), 0.6): 0, 1/2, 0.6, 0.6.
    for t, delta in enumerate([0, 1 / 2, 0.6, 0.6]):
        _, outputs, _ = one_step(executor, optimizer, list(IMAGES[t]), LABELS[t])
        taught = torch.stack([net(x) for net, x in zip(averages.networks, IMAGES[t], strict=True)])
        torch.testing.assert_close(outputs.averaged_logits_PBC, taught.detach())
        for mean, now in zip(averages.state_dict().values(), group.state_dict().values(), strict=True):
            mean.copy_(delta * mean + (1 - delta) * now if mean.is_floating_point() else now)
    executor.train(False)
    predicted = executor.predict(IMAGES[0, 0])
    torch.testing.assert_close(predicted.logits_PBC[1], averages.networks[1](IMAGES[0, 0]).detach().float())
    assert predicted.features[1].shape == (BATCH, group.shape.feature_widths[1])
    torch.testing.assert_close(executor.student(1)(IMAGES[0, 0]), averages.networks[1](IMAGES[0, 0]))
    assert not torch.allclose(group.networks[1](IMAGES[0, 0]), averages.networks[1](IMAGES[0, 0]))


def all_of(net, optimizer):
    """Copies of a network's parameters, momentum buffers and running statistics."""
    parameters = [p.detach().clone() for p in net.parameters()]
    momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in net.parameters()]
    return parameters, momentum, [b.clone() for b in net.buffers()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("teacher", [0, 1])
@pytest.mark.parametrize("executor_class", EXECUTORS)
def test_a_paused_network_keeps_parameters_momentum_and_weight_decay_as_they_are(executor_class, teacher):
    group = pair()
    executor = executor_class(group.train(), methods.build("switokd", group, teacher=teacher).double())
    optimizer, t, s = sgd(executor), group.networks[teacher], group.networks[1 - teacher]
    step, _, _ = one_step(executor, optimizer, IMAGES[0, 0], right_is(group, 1 - teacher, IMAGES[0, 0]))
    assert step.update_P.all()
    before, other = all_of(t, optimizer), all_of(s, optimizer)
    assert all(buffer.abs().max() > 0 for buffer in before[1])
    step, _, gradients = one_step(executor, optimizer, IMAGES[1, 0], right_is(group, teacher, IMAGES[1, 0]))
    assert step.diagnostics["paused"].item() == 1
    assert [name for name, g in gradients.items() if g is None] == [
        name for name in gradients if name.startswith(f"networks.{teacher}.")
    ]
    after = all_of(t, optimizer)
    assert same(before[0], after[0])
    assert same(before[1], after[1])
    assert not same(before[2], after[2])
    assert not any(torch.equal(x, y) for x, y in zip(other[0], all_of(s, optimizer)[0], strict=True))
    step, _, _ = one_step(executor, optimizer, IMAGES[2, 0], right_is(group, 1 - teacher, IMAGES[2, 0]))
    assert step.update_P.all()
    assert not any(torch.equal(x, y) for x, y in zip(after[0], all_of(t, optimizer)[0], strict=True))


@pytest.mark.parametrize("executor_class", EXECUTORS)
def test_a_network_that_is_paused_in_the_first_step_begins_later_as_if_that_step_were_its_first(executor_class):
    group = pair()
    executor = executor_class(group.train(), methods.build("switokd", group).double())
    optim = OptimConfig(lr=0.02, momentum=0.9, weight_decay=5e-3)
    optimizer, t = make_optimizer(optim, executor.parameters()), group.networks[0]
    before = [p.detach().clone() for p in t.parameters()]
    step, _, _ = one_step(executor, optimizer, IMAGES[0, 0], right_is(group, 0, IMAGES[0, 0]))
    assert step.update_P.tolist() == [False, True]
    assert same(before, [p.detach() for p in t.parameters()])
    step, _, gradients = one_step(executor, optimizer, IMAGES[1, 0], right_is(group, 1, IMAGES[1, 0]))
    assert step.update_P.all()
    for old, (name, now) in zip(before, t.named_parameters(), strict=True):
        rise = gradients[f"networks.0.{name}"] + 5e-3 * old
        expected = old - 0.02 * (1.9 if optim.nesterov else 1) * rise
        torch.testing.assert_close(now.detach(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_first_step_from_zero_momentum_is_that_of_torch_to_the_bit(nesterov):
    draw = torch.Generator().manual_seed(4)
    ours = [torch.randn(7, 5, generator=draw).requires_grad_() for _ in range(3)]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    optim = OptimConfig(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=nesterov)
    plain = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=nesterov, fused=True)
    optimizer = make_optimizer(optim, ours)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(7, 5, generator=draw)
            b.grad = a.grad.clone()
        optimizer.step()
        plain.step()
        assert same([p.detach() for p in ours], [p.detach() for p in theirs])


def test_different_networks_may_switch():
    nets = [
        models.build(n, CLASSES, 1, generator=torch.Generator().manual_seed(3)) for n in ("wrn10_1", "resnet8_tiny")
    ]
    group = NetworkGroup(nets).double()
    executor = LoopExecutor(group.train(), methods.build("switokd", group).double())
    step, _, _ = one_step(executor, sgd(executor), IMAGES[0, 0], LABELS[0])
    assert step.loss.isfinite()
    assert executor.method.leader == 1
