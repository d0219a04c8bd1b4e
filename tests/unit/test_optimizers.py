"""Optimizers by name, their groups of parameters, their schedule, and what each of them refuses."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn

from codistill import methods, models
from codistill.config import OptimConfig
from codistill.errors import UserError
from codistill.execution import LoopExecutor
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.training import Config
from codistill.training.check import check_config
from codistill.training.clipping import Clipping
from codistill.training.depth import block_levels
from codistill.training.freezing import Freezing
from codistill.training.optimizer import make_optimizer, plain_state, set_rate
from codistill.training.parameter_groups import parameter_groups
from codistill.training.schedule import learning_rate
from codistill.types import Progress

NAMES = (
    "sgd",
    "adam",
    "AdamW",
    "nadam",
    "radam",
    "adamax",
    "adagrad",
    "adadelta",
    "rmsprop",
    "rprop",
    "asgd",
    "adafactor",
)


def two(name="resnet8_tiny"):
    return NetworkGroup([models.build(name, 10, generator=torch.Generator().manual_seed(i)) for i in range(2)])


def some(count=4):
    draw = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(3, 5, generator=draw)) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_one_optimizer_over_all_students_equals_one_for_each(name):
    together, apart = some(), some()
    one = make_optimizer(OptimConfig(name=name), together)
    each = [make_optimizer(OptimConfig(name=name), apart[i : i + 2]) for i in (0, 2)]
    draw = torch.Generator().manual_seed(2)
    for _ in range(3):
        for a, b in zip(together, apart, strict=True):
            a.grad = torch.randn(3, 5, generator=draw)
            b.grad = a.grad.clone()
        for optimizer in (one, *each):
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))
    assert not torch.equal(together[0], some()[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_is_paused_from_the_start_begins_later_as_if_it_were_its_first_step(name):
    late, fresh = some(), some()
    optimizer = make_optimizer(OptimConfig(name=name), late)
    late[0].grad = torch.ones(3, 5)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(late[1:], fresh[1:], strict=True))
    for parameter in (*late[1:], *fresh[1:]):
        parameter.grad = torch.full((3, 5), 0.5)
    late[0].grad = None
    optimizer.step()
    make_optimizer(OptimConfig(name=name), fresh[1:]).step()
    assert all(torch.equal(a, b) for a, b in zip(late[1:], fresh[1:], strict=True))


def test_rates_and_decay_left_out_are_those_of_the_optimizer():
    found = {name: check_config(Config(optim=OptimConfig(name=name))).optim for name in ("sgd", "adam", "AdamW")}
    assert {name: (o.lr, o.weight_decay) for name, o in found.items()} == {
        "sgd": (0.1, 5e-4), "adam": (1e-3, 0.0), "AdamW": (1e-3, 0.05),
    }  # fmt: skip


def test_a_rate_of_sgd_for_adam_is_warned_of():
    with pytest.warns(UserWarning, match=r"optim.lr 0.1 with adamw: that is a learning rate of SGD; 0.001 is usual"):
        check_config(Config(optim=OptimConfig(name="adamw", lr=0.1)))


@pytest.mark.parametrize(
    ("optim", "says"),
    [
        ({"name": "adamww"}, "unknown optimizer 'adamww': did you mean 'adamw'"),
        ({"name": "lbfgs"}, "cannot train a group of networks, since its step calls the networks several times"),
        ({"name": "sparseadam"}, "it takes sparse gradients only"),
        ({"name": "muon"}, "it takes matrices only"),
        ({"name": "adam", "momentum": 0.5}, "optim.momentum 0.5 and optim.nesterov True with adam: these are SGD's"),
        ({"name": "adam", "nesterov": False}, "these are SGD's"),
        ({"name": "adamw", "options": {"beta": 1}}, "unknown option of adamw 'beta': did you mean 'betas'"),
        ({"name": "adamw", "options": {"lr": 1}}, "optim.options.lr: give it as optim.lr"),
        ({"name": "adamw", "options": {"betas": [2.0, 0.9]}}, "optim.name 'adamw' cannot be built: Invalid beta"),
        ({"name": "rprop", "weight_decay": 0.1}, "optim.weight_decay with 'rprop', which takes none"),
        ({"head_lr": 0.0}, "optim.head_lr 0.0: it must be above 0"),
        ({"layer_decay": 1.5}, "optim.layer_decay 1.5: it must be above 0 and at most 1"),
        ({"clip_grad": 0.0}, "optim.clip_grad 0.0: it must be above 0"),
        ({"min_lr": 0.5, "schedule": "cosine"}, r"optim.min_lr 0.5: it must be 0 or more and below optim.lr (0.1)"),
        ({"min_lr": 0.01}, "optim.min_lr 0.01: it must be left out unless optim.schedule is cosine"),
    ],
)
def test_what_makes_no_sense_is_refused(optim, says):
    with pytest.raises(UserError) as caught:
        check_config(Config(optim=OptimConfig(**optim)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_optimizer_of_the_users_own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "import torch\n\n\nclass Twice(torch.optim.SGD):\n    pass\n\n\nclass Closed(torch.optim.SGD):\n"
        "    def step(self, closure):\n        pass\n\n\ndef other():\n    pass\n"
    )
    optim = OptimConfig(name=f"{path}:Twice", lr=0.5)
    (parameter,) = some(1)
    before = parameter.detach().clone()
    parameter.grad = torch.ones(3, 5)
    make_optimizer(optim, [parameter]).step()
    assert torch.equal(parameter.detach(), before - 0.5)
    with pytest.raises(UserError, match="its step needs a closure"):
        make_optimizer(dataclasses.replace(optim, name=f"{path}:Closed"), some(1))
    with pytest.raises(UserError, match="is no optimizer"):
        make_optimizer(dataclasses.replace(optim, name=f"{path}:other"), some(1))


def test_without_special_wishes_there_is_one_group_and_nothing_new_in_it():
    group = two()
    (own,) = parameter_groups(OptimConfig(), group, list(group.parameters()))
    assert own == {"params": list(group.parameters())}


def test_decay_of_matrices_spares_norms_and_biases_of_students_and_method():
    group = two()
    method = methods.build("okddip", NetworkGroup([*two().networks, *two().networks]))
    optim = OptimConfig(decay="matrices")
    groups = parameter_groups(optim, group, [*group.parameters(), *method.parameters()])
    decays = {id(p): "weight_decay" not in own for own in groups for p in own["params"]}
    named = {**dict(group.named_parameters()), **dict(method.named_parameters())}
    assert {name for name, p in named.items() if decays[id(p)]} == {n for n, p in named.items() if p.ndim > 1}
    assert all(own["weight_decay"] == 0 for own in groups if not decays[id(own["params"][0])])


@pytest.mark.parametrize("branched", [False, True])
def test_the_head_learns_faster_and_early_blocks_slower(branched):
    net = models.build("resnet8_tiny", 10)
    group = BranchedGroup(net, 2, "layer3") if branched else two()
    optim = OptimConfig(head_lr=10, layer_decay=0.5)
    extra = nn.Parameter(torch.zeros(2, 2))
    optimizer = make_optimizer(optim, parameter_groups(optim, group, [*group.parameters(), extra]))
    set_rate(optimizer, 0.2)
    rates = {id(p): own["lr"] for own in optimizer.param_groups for p in own["params"]}
    assert rates[id(extra)] == 0.2
    for peer in range(2):
        found = {name: rates[id(p)] for name, p in group.peer_parameters(peer).items()}
        assert found["fc.weight"] == found["fc.bias"] == 2.0
        assert found["conv1.weight"] == found["bn1.weight"] == pytest.approx(0.2 * 0.5**4)
        assert found["layer1.0.conv1.weight"] == found["layer1.0.bn2.bias"] == pytest.approx(0.2 * 0.5**3)
        assert found["layer3.0.conv1.weight"] == pytest.approx(0.2 * 0.5)
    set_rate(optimizer, 0.1)
    assert {own["lr"] for own in plain_state(optimizer)["param_groups"]} >= {1.0, 0.05}


class Unordered(nn.Module):
    """Its layers run in another order than they are written in."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
        self.late = nn.Conv2d(4, 8, 3)
        self.norm = nn.BatchNorm2d(4)
        self.early = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.fc(self.late(self.norm(self.early(x))).mean((2, 3)))


def test_depth_is_the_order_in_which_layers_run():
    net = Unordered()
    levels = block_levels(net, NetworkGroup([net]))
    assert levels == {
        "early.weight": 0, "early.bias": 0, "norm.weight": 0, "norm.bias": 0, "late.weight": 1, "late.bias": 1,
        "fc.weight": 2, "fc.bias": 2,
    }  # fmt: skip


def test_blocks_of_a_transformer_count_as_one_each():
    net = models.build("timm:vit_tiny_patch16_224", 10)
    levels = block_levels(net, NetworkGroup([net]))
    assert [levels[name] for name in ("cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight")] == [0, 0, 1]
    assert levels["blocks.11.mlp.fc2.bias"] == 12
    assert levels["head.weight"] == 13


def test_cosine_falls_to_the_least_rate_step_by_step():
    optim = OptimConfig(lr=0.2, schedule="cosine", min_lr=0.02)
    rates = [learning_rate(optim, k / 10, 4) for k in range(41)]
    assert all(a > b for a, b in pairwise(rates))
    assert rates[0] == pytest.approx(0.2)
    assert rates[20] == pytest.approx(0.11)
    assert rates[40] == pytest.approx(0.02)


def test_every_part_is_clipped_by_its_own_norm():
    group = BranchedGroup(models.build("resnet8_tiny", 10), 3, "layer3")
    method = methods.build("one", group)
    parts = Clipping(group, method, 2.0).parts
    assert sum(map(len, parts)) == len(list(group.parameters())) + len(list(method.parameters()))
    for size, part in enumerate(parts):
        for p in part:
            p.grad = torch.full_like(p, 10.0**size / 100)
    for p in parts[1]:
        p.grad = None
    before = [[None if p.grad is None else p.grad.clone() for p in part] for part in parts]
    expected = [torch.cat([p.grad.flatten() for p in part if p.grad is not None] or [torch.zeros(1)]) for part in parts]
    Clipping(group, method, 2.0)()
    for old, whole, part in zip(before, expected, parts, strict=True):
        factor = min(1.0, 2.0 / max(float(whole.norm()), 1e-9))
        for g, p in zip(old, part, strict=True):
            assert (g is None) == (p.grad is None)
            if g is not None:
                torch.testing.assert_close(p.grad, g * factor)


def test_frozen_parameters_and_norms_do_not_move_until_their_time():
    group = two()
    freezing = Freezing(group, ("layer1", "bn*"), epochs=2)
    group.train()
    names = {name for name, p in group.peer_parameters(1).items() if not p.requires_grad}
    assert names == {n for n in group.peer_parameters(1) if n.startswith(("layer1.", "bn"))}
    assert not group.networks[0].bn1.training
    assert not group.networks[1].layer1[0].bn2.training
    assert group.networks[0].layer2[0].bn1.training
    before = group.networks[0].bn1.running_mean.clone()
    group(torch.randn(4, 3, 8, 8))
    assert torch.equal(before, group.networks[0].bn1.running_mean)
    freezing.at(1)
    assert freezing.frozen
    freezing.at(2)
    group.train()
    assert not freezing.frozen
    assert group.networks[0].bn1.training
    assert all(p.requires_grad for p in group.parameters())


@pytest.mark.parametrize(
    ("patterns", "says"),
    [
        (("layr1.*",), "unknown pattern of freeze 'layr1.*': did you mean 'layer1"),
        (("layer1", "zzzzz"), "unknown pattern of freeze 'zzzzz'"),
        (("*",), "freezes all parameters of student 0; leave out the classifier, 'fc'"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_all_is_refused(patterns, says):
    with pytest.raises(UserError) as caught:
        Freezing(two(), patterns)
    assert says in str(caught.value)


def test_the_scale_of_the_loss_reaches_every_gradient_and_no_figure():
    gradients = []
    for scale in (None, 0.25):
        group = two()
        executor = LoopExecutor(group.train(), methods.build("dml", group))
        draw = torch.Generator().manual_seed(0)
        x, y = torch.randn(4, 3, 8, 8, generator=draw), torch.tensor([0, 1, 2, 3])
        step, _ = executor.train_step(x, y, Progress(0, 1), scale=scale)
        gradients.append((step.loss.detach(), [p.grad for p in group.parameters()]))
    assert torch.equal(gradients[0][0], gradients[1][0])
    for whole, part in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(part, 0.25 * whole)
