"""Networks by name: parameter counts, shapes, seeds and refusals."""

import pytest
import torch
from torch import fx

from codistill import models
from codistill.errors import UserError
from codistill.models.densenet import DenseNet
from codistill.models.resnet import BasicBlock, Bottleneck, ResNet
from codistill.models.vgg import VGG
from codistill.models.wide_resnet import WideResNet

# As printed or implied by the papers for their networks; the others follow from the definitions of their own papers.
PARAMETERS = {
    "resnet8_tiny": (44_230, 48_640, 48),
    "resnet20": (272_474, 278_324, 64),
    "resnet32": (466_906, 472_756, 64),
    "resnet56": (855_770, 861_620, 64),
    "resnet110": (1_147_738, 1_170_868, 256),
    "resnet110_basic": (1_730_714, 1_736_564, 64),
    "wrn20_8": (6_848_090, 6_871_220, 256),
    "wrn16_2": (691_674, 703_284, 128),
    "wrn28_10": (36_479_194, 36_536_884, 640),
    "wrn40_2": (2_243_546, 2_255_156, 128),
    "vgg16": (15_253_578, 15_299_748, 512),
    "densenet40_12": (176_122, 188_092, 132),
    "densenet40_12_plain": (1_019_722, 1_060_132, 448),
}
IMAGENET = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v2_x0.5": 1_968_680,
    "mobilenet_v2_x1.0": 3_504_872,
    "mobilenet_v2_x1.2": 4_725_992,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_and_feature_width_are_those_of_the_papers(name):
    ten, hundred, width = PARAMETERS[name]
    with torch.device("meta"):
        assert count(models.OWN[name](num_classes=10)) == ten
        net = models.OWN[name](num_classes=100)
    assert count(net) == hundred
    assert net.fc.in_features == width


@pytest.mark.parametrize("name", IMAGENET)
def test_torchvision_networks_have_the_published_parameters(name):
    with torch.device("meta"):
        assert count(models.TORCHVISION[name](num_classes=1000, in_channels=3)) == IMAGENET[name]


@pytest.mark.parametrize("name", ["resnet8_tiny", "wrn16_2", "vgg16", "densenet40_12"])
@pytest.mark.parametrize("size", [8, 28])
def test_networks_take_any_channels_and_sizes(name, size):
    net = models.build(name, 5, in_channels=1, generator=seeded(0)).eval()
    with torch.no_grad():
        logits = net(torch.randn(2, 1, size, size))
    assert logits.shape == (2, 5)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    "net",
    [
        ResNet(BasicBlock, (1, 1, 1), 5),
        ResNet(Bottleneck, (1, 1, 1), 5, width_factor=2),
        WideResNet(10, 1, 5),
        DenseNet(2, 4, 5),
        DenseNet(2, 4, 5, bottleneck=False),
        VGG(5),
    ],
    ids=lambda net: type(net).__name__,
)
def test_fx_follows_the_forward_exactly(net):
    net.eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(fx.symbolic_trace(net)(x), net(x))


@pytest.mark.parametrize("name", ["resnet8_tiny", "mobilenet_v2_x0.5", "torchvision:shufflenet_v2_x0_5"])
def test_generator_alone_decides_the_network(name):
    state = torch.get_rng_state()
    first, same, other = (models.build(name, 5, generator=seeded(s)).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    weight = next(key for key in first if first[key].ndim == 4)
    assert not torch.equal(first[weight], other[weight])


def test_own_networks_are_initialised_by_the_documented_rule():
    weight = models.build("resnet8_tiny", 5, generator=seeded(0)).layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (48 * 9)) ** 0.5, rel=0.02)


def test_two_builds_from_one_generator_differ():
    generator = seeded(3)
    first, second = (models.build("resnet8_tiny", 5, generator=generator) for _ in range(2))
    assert not torch.equal(first.conv1.weight, second.conv1.weight)


def test_without_a_generator_the_global_seed_decides():
    torch.manual_seed(5)
    first = models.build("resnet8_tiny", 5).conv1.weight
    second = models.build("resnet8_tiny", 5).conv1.weight
    torch.manual_seed(5)
    assert torch.equal(models.build("resnet8_tiny", 5).conv1.weight, first)
    assert not torch.equal(first, second)


def test_available_names_are_sorted_and_contain_all_of_the_papers():
    names = models.available()
    assert names == sorted(names)
    assert set(PARAMETERS) | set(IMAGENET) <= set(names)


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown model 'resnet33': did you mean .*'resnet32'"):
        models.build("resnet33", 10)


def test_too_few_classes_or_channels_are_refused():
    with pytest.raises(UserError, match="num_classes 1: a classifier needs 2 or more"):
        models.build("resnet20", 1)
    with pytest.raises(UserError, match="in_channels 0: images have 1 or more"):
        models.build("resnet20", 10, in_channels=0)
