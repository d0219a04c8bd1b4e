"""Memory layout of the networks: converted where that works, with nothing else changed."""

import pytest
import torch
from torch import nn

from codistill import models
from codistill.execution import lay_out, layout
from codistill.peers import BranchedGroup, NetworkGroup

IMAGE = (3, 32, 32)


class ViewsItsActivations(nn.Module):
    """Works on planar activations only, in the mode that it is told to."""

    def __init__(self, mode):
        super().__init__()
        self.mode, self.conv, self.fc = mode, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4096, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(len(x), -1) if self.training == self.mode else x.flatten(1))


def is_channels_last(group):
    weights = [part.weight for part in group.modules() if isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1)]
    return {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights}


GROUPS = {
    "networks": NetworkGroup([models.build("resnet8_tiny", 5), models.build("vgg8_tiny", 5)]),
    "branches": BranchedGroup(models.build("resnet8_tiny", 5), branches=2),
}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_weights_lie_channels_last_and_nothing_else_changes(group):
    x = torch.randn(4, *IMAGE)
    before = {name: (id(p), p.detach().clone()) for name, p in group.named_parameters()}
    statistics = {name: b.clone() for name, b in group.named_buffers()}
    random, expected = torch.get_rng_state(), group.eval()(x).logits_PBC
    assert lay_out(group, IMAGE)
    assert is_channels_last(group) == {True}
    for name, p in group.named_parameters():
        assert id(p) == before[name][0]
        assert torch.equal(p, before[name][1])
    assert all(torch.equal(b, statistics[name]) for name, b in group.named_buffers())
    assert torch.equal(torch.get_rng_state(), random)
    assert not group.training
    torch.testing.assert_close(group(x).logits_PBC, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_a_network_that_views_planar_activations_is_left_alone(mode):
    group = NetworkGroup([ViewsItsActivations(mode), ViewsItsActivations(mode)])
    assert not lay_out(group, IMAGE)
    assert is_channels_last(group) == {False}
    group.train(mode)(torch.randn(4, *IMAGE))


def test_the_layout_can_be_refused():
    group = NetworkGroup([models.build("resnet8_tiny", 5)])
    assert not lay_out(group, IMAGE, channels_last=False)
    assert is_channels_last(group) == {False}


def test_weights_of_five_axes_are_left_alone():
    net = nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 4, (1, 3, 3)), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    group = NetworkGroup([net], example=torch.zeros(2, 1, 8, 8))
    assert not lay_out(group, (1, 8, 8))
    assert group(torch.zeros(2, 1, 8, 8)).logits_PBC.shape == (1, 2, 3)


@pytest.mark.parametrize(("seconds", "faster"), [(0.5, True), (0.96, False), (2.0, False)])
def test_a_layout_that_is_measured_must_be_clearly_faster(monkeypatch, seconds, faster):
    run = []

    def fastest(steps, device):
        for name, step in steps.items():
            step()
            run.append(name)
        return {"planar": 1.0, "channels last": seconds}, {}

    monkeypatch.setattr(layout, "fastest", fastest)
    network = models.build("resnet8_tiny", 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert layout.is_faster(network, (4, *IMAGE), torch.device("cpu"), torch.bfloat16) == faster
    assert run == ["planar", "channels last"]
    assert is_channels_last(network) == {False}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_memory_for_a_measurement_the_layout_stays(monkeypatch):
    monkeypatch.setattr(layout, "fastest", lambda steps, device: ({"planar": 1.0}, {"channels last": "out of memory"}))
    assert not layout.is_faster(models.build("resnet8_tiny", 5), (4, *IMAGE), torch.device("cpu"), None)
