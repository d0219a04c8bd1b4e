"""One trunk and its branches: what is shared, what is the plain network, what students are."""

import copy
import pickle

import pytest
import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.models.densenet import DenseNet
from codistill.models.resnet import Bottleneck, ResNet
from codistill.models.vgg import VGG
from codistill.models.wide_resnet import WideResNet
from codistill.peers import BranchedGroup
from codistill.types import GroupShape


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int = 0) -> nn.Module:
    return models.build("resnet8_tiny", 5, 1, seeded(seed))


def group_of(branches: int, **keywords: object) -> BranchedGroup:
    return BranchedGroup(tiny(), branches, generator=seeded(1), **keywords)


def images(seed: int = 9) -> torch.Tensor:
    return torch.randn(6, 1, 8, 8, generator=seeded(seed))


def parameters_of(group: nn.Module) -> int:
    return sum(p.numel() for p in group.parameters())


OWN_TRUNKS = {
    "resnet8_tiny": ("layer3", 24),
    "resnet110": ("layer3", 128),
    "wrn20_8": ("layer3", 128),
    "wrn16_2": ("layer3", 64),
    "vgg16": ("stage5", 512),
    "densenet40_12": ("block3", 60),
}


@pytest.mark.parametrize("name", OWN_TRUNKS)
def test_trunk_and_one_branch_are_the_plain_network(name):
    with torch.device("meta"):
        net = models.OWN[name](num_classes=100, in_channels=3)
    group = BranchedGroup(net, 1, generator=seeded(0))
    split, width = OWN_TRUNKS[name]
    assert group.splits == {split: 1}
    assert group.shape == GroupShape(1, 100, (net.fc.in_features,), width, shares_trunk=True)
    together = {key: value for part in group.path(0) for key, value in part.state_dict().items()}
    assert {key: value.shape for key, value in together.items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    assert parameters_of(group) == parameters_of(net)


@pytest.mark.parametrize(
    "net",
    [ResNet(Bottleneck, (1, 1, 1), 5), WideResNet(10, 1, 5), DenseNet(2, 4, 5), VGG(5)],
    ids=lambda net: type(net).__name__,
)
def test_with_the_same_weights_the_outputs_are_the_plain_networks(net):
    group = BranchedGroup(net, 2, generator=seeded(1))
    for part in group.path(1):
        part.load_state_dict({key: net.state_dict()[key] for key in part.state_dict()})
    net.eval(), group.eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(group(x).logits_PBC[1], net(x))
        assert not torch.equal(group(x).logits_PBC[0], net(x))


def test_training_gives_the_plain_networks_gradients_and_running_statistics():
    net, group = tiny(), group_of(1)
    for part in group.path(0):
        part.load_state_dict({key: net.state_dict()[key] for key in part.state_dict()})
    x = images()
    net.train()(x).square().sum().backward()
    group.train()(x).logits_PBC.square().sum().backward()
    for part in group.path(0):
        for name, parameter in part.named_parameters():
            torch.testing.assert_close(parameter.grad, net.get_parameter(name).grad, rtol=0, atol=0)
        for name, buffer in part.named_buffers():
            assert torch.equal(buffer, net.get_buffer(name))


def test_trunk_keeps_the_given_weights_and_every_branch_is_drawn_anew():
    net = tiny()
    group = BranchedGroup(net, 3, generator=seeded(1))
    assert torch.equal(group.trunk.conv1.weight, net.conv1.weight)
    heads = [net.fc.weight, *(branch.fc.weight for branch in group.levels[0])]
    for i, first in enumerate(heads):
        for second in heads[i + 1 :]:
            assert not torch.equal(first, second)
    with torch.no_grad():
        group.trunk.conv1.weight.zero_()
    assert net.conv1.weight.abs().sum() > 0


def test_generator_alone_decides_the_branches_and_the_global_state_stays():
    net, state = tiny(), torch.get_rng_state()
    first, same = (BranchedGroup(net, 2, generator=seeded(4)).state_dict() for _ in range(2))
    other = BranchedGroup(net, 2, generator=seeded(5)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["levels.0.1.fc.weight"], other["levels.0.1.fc.weight"])


def test_given_network_keeps_values_and_modes_and_the_group_takes_them_over():
    net = tiny().train()
    net.layer1.eval()
    before = copy.deepcopy(net.state_dict())
    group = BranchedGroup(net, 2, generator=seeded(0))
    assert {name for name, m in group.named_modules() if not m.training} == {
        name for name, _ in group.named_modules() if name.startswith("trunk.layer1")
    }
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.layer2.training
    assert not net.layer1.training


def test_outputs_have_logits_features_and_the_pooled_trunk():
    group = group_of(3).eval()
    x = images()
    outputs = group(x)
    trunk = group.trunk(x)[0]
    assert trunk.shape == (6, 24, 4, 4)
    assert torch.equal(outputs.trunk_features, trunk.mean((2, 3)))
    for p, branch in enumerate(group.levels[0]):
        pooled = branch.layer3(trunk).mean((2, 3))
        torch.testing.assert_close(outputs.features[p], pooled)
        assert torch.equal(branch.fc(outputs.features[p]), outputs.logits_PBC[p])


def test_trunk_runs_once_for_one_view_and_once_for_each_distinct_view():
    group, calls = group_of(3).eval(), []
    group.trunk.conv1.register_forward_hook(lambda *_: calls.append(1))
    first, second = images(1), images(2)
    group(first)
    assert len(calls) == 1
    group([first, second, first])
    assert len(calls) == 3


def test_each_branch_sees_its_own_view_and_trunk_features_are_their_mean():
    group = group_of(3).eval()
    views = [images(s) for s in (1, 2, 3)]
    outputs = group(views)
    alone = [group(view) for view in views]
    for p in range(3):
        assert torch.equal(outputs.logits_PBC[p], alone[p].logits_PBC[p])
    mean = torch.stack([a.trunk_features for a in alone]).mean(0)
    torch.testing.assert_close(outputs.trunk_features, mean)


@pytest.mark.parametrize("branches", [2, 3])
def test_rescaling_divides_the_gradient_into_the_trunk_and_nothing_else(branches):
    group = group_of(branches).eval()

    def gradients(rescale: bool) -> dict[str, torch.Tensor]:
        group.rescale_shared_gradients = rescale
        group.zero_grad()
        group(images()).logits_PBC.square().sum().backward()
        return {name: p.grad.clone() for name, p in group.named_parameters()}

    plain, scaled = gradients(False), gradients(True)
    assert group_of(2).rescale_shared_gradients is False
    for name, gradient in plain.items():
        factor = branches if name.startswith("trunk.") else 1
        torch.testing.assert_close(scaled[name] * factor, gradient)


def test_rescaling_leaves_the_trunk_features_gradient_whole():
    group = group_of(2).eval()
    group.rescale_shared_gradients = True
    group(images()).trunk_features.sum().backward()
    scaled = group.trunk.conv1.weight.grad.clone()
    group.zero_grad()
    group.rescale_shared_gradients = False
    group(images()).trunk_features.sum().backward()
    assert torch.equal(scaled, group.trunk.conv1.weight.grad)


def test_student_is_the_plain_class_with_weights_and_statistics():
    group = group_of(3)
    for seed in range(3):
        group.train()(images(seed)).logits_PBC.sum().backward()
    group.eval()
    for p in range(3):
        student = group.student(p)
        assert type(student) is type(tiny())
        assert not student.training
        assert student.state_dict().keys() == tiny().state_dict().keys()
        assert student.bn1.num_batches_tracked.item() == 3
        assert torch.equal(student(images()), group(images()).logits_PBC[p])
        assert all(q.grad is None for q in student.parameters())
    with torch.no_grad():
        student.conv1.weight.zero_()
    assert group.trunk.conv1.weight.abs().sum() > 0


def test_student_of_a_trained_group_in_double_precision_follows_dtype_and_freezing():
    group = group_of(2).double().eval()
    group.trunk.requires_grad_(False)
    student = group.student(1)
    assert torch.equal(student(images().double()), group(images().double()).logits_PBC[1])
    assert not student.conv1.weight.requires_grad
    assert student.fc.weight.requires_grad


def test_group_is_an_ordinary_module():
    group = group_of(3)
    names = list(group.state_dict())
    assert names == list(group_of(3).state_dict())
    assert names[0] == "trunk.conv1.weight"
    assert names[-1] == "levels.0.2.fc.bias"
    ids = [id(p) for p in group.parameters()]
    assert len(ids) == len(set(ids))
    branch = sum(p.numel() for p in group.levels[0][0].parameters())
    assert parameters_of(group) == parameters_of(tiny()) + 2 * branch
    assert all(not m.training for m in group.eval().modules())
    assert all(m.training for m in group.train().modules())
    assert all(p.is_meta for p in copy.deepcopy(group).to("meta").parameters())


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda group: pickle.loads(pickle.dumps(group))])
def test_a_copy_of_a_group_is_independent_and_equal(twin_of):
    group = group_of(2).eval()
    twin = twin_of(group)
    assert torch.equal(twin(images()).logits_PBC, group(images()).logits_PBC)
    with torch.no_grad():
        twin.trunk.conv1.weight.zero_()
    assert group.trunk.conv1.weight.abs().sum() > 0
    assert twin.student(1).conv1.weight.abs().sum() == 0


def test_a_branch_that_begins_in_place_does_not_spoil_its_siblings_input():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.act = nn.SiLU(inplace=True)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.act(self.stem(x)))

    group = BranchedGroup(InPlace(), 3, "act", generator=seeded(0))
    x = torch.randn(2, 4)
    outputs = group(x)
    for p in range(3):
        assert torch.equal(group.student(p)(x), outputs.logits_PBC[p])
    assert torch.equal(outputs.trunk_features, group.trunk.stem(x))
    group.rescale_shared_gradients = True
    group(x).logits_PBC.sum().backward()


@pytest.mark.parametrize("branches", [0, -1])
def test_fewer_than_one_branch_is_refused(branches):
    with pytest.raises(UserError, match=f"{branches} branches: a group has at least one peer"):
        BranchedGroup(tiny(), branches)


def test_unknown_peer_is_refused():
    for call in (group_of(2).student, group_of(2).path):
        with pytest.raises(UserError, match="peer 2 of a group of 2: give 0 to 1"):
            call(2)
