"""The recompute executor agrees with `loop` to the bit, and holds one peer's activations at a time."""

import weakref

import pytest
import torch
from torch import nn

from codistill import methods, models
from codistill.errors import UserError
from codistill.execution import ExecutionOptions, LoopExecutor, RecomputeExecutor
from codistill.peers import BranchedGroup, NetworkGroup, PeerGroup, TreeGroup
from codistill.types import GroupShape, Progress

CLASSES, BATCH = 5, 8


def group_of(kind, name="vgg8_tiny"):
    """Peers with dropout and batch norm."""
    generator = torch.Generator().manual_seed(0)
    net = models.build(name, CLASSES, 3, generator=generator)
    if kind == "networks":
        return NetworkGroup([models.build(name, CLASSES, 3, generator=generator) for _ in range(4)])
    if kind == "branches":
        return BranchedGroup(net, branches=4, generator=generator)
    return TreeGroup(net, {"stage3": 2, "stage5": 2}, generator=generator)


def train(make, group, icl=False, amp="off", steps=2):
    torch.manual_seed(3)
    method = methods.build("okddip", group, generator=torch.Generator().manual_seed(5))
    executor = make(group.train(), method, ExecutionOptions(amp=amp))
    trained = [*group.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        views = torch.randn(4 if icl else 1, BATCH, 3, 16, 16, generator=generator).unbind()
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        out, outputs = executor.train_step(views if icl else views[0], labels, Progress(5, 10))
        optimizer.step()
    found = {"loss": out.loss.detach(), "logits": outputs.logits_PBC.detach(), "random": torch.get_rng_state()}
    found |= {f"{name} of {key}": tensor for key, tensor in group.state_dict().items() for name in ["state"]}
    return found | {f"gradient of {key}": p.grad for key, p in group.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("icl", [False, True])
@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
def test_recomputed_peers_train_as_the_loop_trains_them_to_the_bit(kind, icl):
    expected = train(LoopExecutor, group_of(kind), icl)
    found = train(RecomputeExecutor, group_of(kind), icl)
    assert found.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]


def test_recomputed_peers_train_in_mixed_precision_as_the_loop_trains_them():
    expected = train(LoopExecutor, group_of("branches"), True, "bf16")
    found = train(RecomputeExecutor, group_of("branches"), True, "bf16")
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]


@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
def test_no_activation_of_a_peer_is_alive_while_the_method_runs(kind):
    alive = {}
    for executor_class in (LoopExecutor, RecomputeExecutor):
        group, seen = group_of(kind), []
        for part in group.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(lambda module, args, out, seen=seen: seen.append(weakref.ref(out)))
        method = methods.build("dml", group)
        counts = []
        method.register_forward_pre_hook(lambda *_, seen=seen, counts=counts: counts.append([r() for r in seen]))
        x, labels = torch.randn(BATCH, 3, 16, 16), torch.zeros(BATCH, dtype=torch.int64)
        executor_class(group.train(), method).train_step(x, labels, Progress(0, 1))
        alive[executor_class] = sum(tensor is not None for tensor in counts[0])
    # Five convolutions a network; the branches' trunk holds four of them, the tree's two.
    assert alive[LoopExecutor] == {"networks": 20, "branches": 4 + 4, "tree": 2 + 2 * 2 + 4}[kind]
    assert alive[RecomputeExecutor] == {"networks": 0, "branches": 4, "tree": 2}[kind]


@pytest.mark.parametrize("icl", [False, True])
@pytest.mark.parametrize("kind", ["networks", "branches"])
def test_micro_batches_give_the_gradients_of_the_whole_batch_where_images_do_not_meet(kind, icl):
    def without_norm():
        net = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES)]
        net = nn.Sequential(*net)
        net(torch.zeros(2, 3, 16, 16))
        return net

    torch.manual_seed(0)
    nets = [without_norm() for _ in range(4)]
    if kind == "networks":
        group = NetworkGroup(nets, example=torch.zeros(2, 3, 16, 16))
    else:
        group = BranchedGroup(nets[0], 4, "2", torch.Generator().manual_seed(1), example=torch.zeros(2, 3, 16, 16))
    images = []
    group.register_forward_pre_hook(lambda module, args: images.append(len(args[0][0]) if icl else len(args[0])))
    group.double()
    results = []
    for size in (BATCH, 2):
        group.zero_grad()
        method = methods.build("kdcl_general", group).double()
        executor = RecomputeExecutor(group, method, ExecutionOptions(micro_batch=size))
        generator = torch.Generator().manual_seed(1)
        views = torch.randn(4 if icl else 1, BATCH, 3, 16, 16, generator=generator, dtype=torch.float64).unbind()
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        step, outputs = executor.train_step(views if icl else views[0], labels, Progress(5, 10))
        assert outputs.logits_PBC.shape[1] == len(outputs.features[0]) == BATCH
        results.append([step.loss.detach(), outputs.logits_PBC.detach(), *(p.grad.clone() for p in group.parameters())])
    assert images == [BATCH, 2, 2, 2, 2]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_micro_batches_carry_the_trunks_features_and_the_teachers_logits():
    group = group_of("branches", "wrn10_1")
    teachers = [models.build("resnet8_tiny", CLASSES, 3)]
    for size in (4, BATCH):
        options = ExecutionOptions(micro_batch=size)
        method = methods.build("kd", group, teachers=1)
        executor = RecomputeExecutor(group.train(), method, options, teachers)
        x, labels = torch.randn(BATCH, 3, 8, 8), torch.zeros(BATCH, dtype=torch.int64)
        _, outputs = executor.train_step(x, labels, Progress(0, 1))
        assert outputs.trunk_features.shape == (BATCH, group.shape.trunk_width)
        assert outputs.teacher_logits_KBC.shape == (1, BATCH, CLASSES)


def test_an_unknown_kind_of_group_is_refused():
    class Own(PeerGroup):
        shape = GroupShape(2, CLASSES, (3, 3))

    with pytest.raises(UserError, match="executor 'recompute' with a Own"):
        RecomputeExecutor(Own(), methods.build("dml", GroupShape(2, CLASSES, (3, 3))))
