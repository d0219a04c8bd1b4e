"""Initial values: distribution of every kind of layer, and whose random state is used."""

import math

import pytest
import torch
from torch import nn

from codistill.errors import UserError
from codistill.models import build, initialise
from codistill.peers import BranchedGroup


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Odd(nn.Module):
    """Parameters of all kinds that no layer covers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, 5000, generator=seeded(0)))
        self.scale = nn.Parameter(torch.full((8,), 1e-5))
        self.single = nn.Parameter(torch.tensor([3.0]))
        self.fixed = nn.Parameter(torch.arange(8.0), requires_grad=False)
        self.table = nn.Embedding(50, 8)
        self.attention = nn.MultiheadAttention(8, 2)


def test_convolution_is_he_normal_in_outputs_per_group():
    conv = initialise(nn.Conv2d(64, 256, 3), seeded(0))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)
    assert conv.bias.abs().max().item() == 0
    depthwise = initialise(nn.Conv2d(2048, 2048, 5, groups=2048), seeded(0))
    assert depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.02)


def test_linear_is_uniform_within_one_over_root_inputs():
    linear = initialise(nn.Linear(400, 300), seeded(0))
    for tensor in (linear.weight, linear.bias):
        assert tensor.abs().max().item() <= 0.05
    assert linear.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.01)
    assert linear.bias.abs().max().item() > 0.045


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6), nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.RMSNorm(6)])
def test_norms_start_as_identity(norm):
    with torch.no_grad():
        for tensor in norm.parameters():
            tensor.fill_(7)
    if isinstance(norm, nn.BatchNorm2d):
        norm(torch.randn(4, 6, 3, 3))
        initialise(norm, seeded(0))
        assert norm.running_mean.tolist() == [0] * 6
        assert norm.running_var.tolist() == [1] * 6
        assert norm.num_batches_tracked.item() == 0
    initialise(norm, seeded(0))
    assert norm.weight.tolist() == [1] * 6
    assert getattr(norm, "bias", None) is None or norm.bias.tolist() == [0] * 6


def test_parameters_that_no_layer_covers_keep_their_spread_and_constants_their_value():
    odd = Odd()
    before = {name: p.detach().clone() for name, p in odd.named_parameters()}
    initialise(odd, seeded(1))
    assert not torch.equal(odd.token, before["token"])
    assert odd.token.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(odd.scale, before["scale"])
    assert torch.equal(odd.fixed, before["fixed"])
    assert odd.single.item() == 3
    assert not torch.equal(odd.table.weight, before["table.weight"])
    assert odd.table.weight.std().item() == pytest.approx(1, rel=0.1)
    assert not torch.equal(odd.attention.in_proj_weight, before["attention.in_proj_weight"])


def test_equal_seeds_give_equal_values_and_the_global_state_stays():
    nets = [Odd() for _ in range(3)]
    state = torch.get_rng_state()
    first, same, other = (initialise(net, seeded(s)) for net, s in zip(nets, (1, 1, 2), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("table.weight", "attention.in_proj_weight", "attention.out_proj.weight", "token"):
        assert torch.equal(first.get_parameter(name), same.get_parameter(name))
        assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_a_tied_parameter_is_drawn_once():
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    alone = initialise(nn.Linear(8, 8), seeded(0))
    initialise(nn.Sequential(first, second), seeded(0))
    assert torch.equal(first.weight, alone.weight)


def test_every_parameter_of_a_network_changes_but_the_norms():
    net = build("resnet8_tiny", 10, generator=seeded(0))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    initialise(net, seeded(1))
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter.ndim == 1 and name != "fc.bias")


def test_parameters_without_values_are_passed_over():
    with torch.device("meta"):
        net = Odd()
    assert initialise(net, seeded(0)).token.is_meta


def test_a_lazy_layer_without_a_size_is_refused_by_its_name():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(
        UserError, match=r"parameter '1\.weight' has no size yet, since its layer is lazy: run the network"
    ):
        initialise(net, seeded(0))
    with pytest.raises(UserError, match=r"parameter '0\.running_mean' has no size yet"):
        initialise(nn.Sequential(nn.LazyBatchNorm2d(affine=False)), seeded(0))
    net(torch.zeros(2, 1, 4, 4))
    assert initialise(net, seeded(0))[1].weight.shape == (3, 16)


def test_a_generator_elsewhere_is_refused():
    class Elsewhere:
        device = torch.device("cuda:0")

    with pytest.raises(UserError, match=r"generator on cuda:0: initial parameters are drawn on the CPU"):
        initialise(nn.Linear(2, 2), Elsewhere())


def test_the_released_initialisation_draws_vgg_and_densenet_as_okddips_authors_do():
    vgg = build("vgg16", 10, generator=seeded(0), initialisation="released")
    for layer in (vgg.head[0], vgg.head[3], vgg.fc):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
        assert layer.bias.abs().max().item() == 0
    dense = build("densenet40_12", 10, generator=seeded(0), initialisation="released")
    conv = dense.block3[5].layers[5]
    assert (conv.in_channels, conv.out_channels) == (48, 12)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (48 * 9)), rel=0.03)
    usual = build("densenet40_12", 10, generator=seeded(0)).block3[5].layers[5]
    assert usual.weight.std().item() == pytest.approx(math.sqrt(2 / (12 * 9)), rel=0.03)


def test_the_released_initialisation_is_the_usual_one_for_other_networks():
    usual, released = (build("resnet20", 10, generator=seeded(0), initialisation=i) for i in ("usual", "released"))
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), released.parameters(), strict=True))


def test_branches_are_drawn_by_the_rule_of_their_network():
    net = build("vgg8_tiny", 10, generator=seeded(0), initialisation="released")
    group = BranchedGroup(net, 2, generator=seeded(1))
    for branch in range(2):
        head = group.student(branch).head
        assert head[0].weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(UserError, match="unknown initialisation 'relaesed': did you mean 'released'"):
        build("vgg16", 10, initialisation="relaesed")
