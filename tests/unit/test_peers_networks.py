"""Groups of separate networks, and where a network's features are."""

import copy
import threading

import pytest
import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.models.wide_resnet import WideResNet
from codistill.peers import NetworkGroup
from codistill.peers.features import find_classifier
from codistill.peers.observe import run_observed
from codistill.types import GroupShape


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int, num_classes: int = 5) -> nn.Module:
    return models.build("resnet8_tiny", num_classes, 1, seeded(seed))


class Swapped(nn.Module):
    """Declares the classifier first, and a layer that never runs last; uses a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(6, 3)
        self.body = nn.Linear(4, 6)
        self.unused = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(input=torch.relu(self.body(x)))


class ConvHead(nn.Module):
    def __init__(self, kernel: int = 1) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.head = nn.Conv2d(6, 4, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x))).mean((2, 3))


class Returns(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> object:
        logits = self.fc(x)
        return {"tuple": (logits, logits), "cube": logits[:, None], "sum": logits.sum(0, keepdim=True)}[self.what]


def test_features_are_the_input_of_the_linear_layer_that_runs_last():
    net = Swapped()
    classifier, _ = find_classifier(net)
    assert (classifier.name, classifier.num_classes, classifier.width) == ("classifier", 3, 6)
    x = torch.randn(2, 4)
    logits, features, _ = run_observed(net, {}, classifier.features, x)
    assert torch.equal(features, torch.relu(net.body(x)))
    assert torch.equal(net.classifier(features), logits)
    assert not net.classifier._forward_pre_hooks


class DropoutHead(nn.Module):
    """A network whose head lies between its features and its classifier."""

    feature_layer = "head.0"

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.head = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.head(self.body(x).mean((2, 3))))


def test_a_network_says_where_its_features_are():
    x, net = torch.randn(2, 3, 8, 8), DropoutHead()
    group = NetworkGroup([net], example=x)
    assert (group.classifiers[0].name, group.classifiers[0].features) == ("fc", "head.0")
    torch.testing.assert_close(group(x).features[0], net.body(x).mean((2, 3)))


def test_the_users_choice_of_features_goes_before_the_networks_own():
    x, net = torch.randn(2, 3, 8, 8), DropoutHead().eval()
    group = NetworkGroup([net], example=x, features="fc").eval()
    torch.testing.assert_close(group(x).features[0], net.head(net.body(x).mean((2, 3))))
    maps = NetworkGroup([DropoutHead()], example=x, features="body")
    assert maps.shape.feature_widths == (3,)
    torch.testing.assert_close(maps(x).features[0], x.mean((2, 3)))


def test_a_feature_layer_that_is_not_there_or_never_runs_is_refused():
    with pytest.raises(UserError, match=r"unknown feature layer 'haed.0': did you mean 'head.0'"):
        NetworkGroup([DropoutHead()], features="haed.0")
    with pytest.raises(
        UserError, match="feature layer 'unused' does not run in Swapped: name a layer that its forward"
    ):
        NetworkGroup([Swapped()], features="unused")


def test_vgg_puts_out_what_enters_its_head():
    # As in the code that OKDDip's authors released: neither its linear layers nor their dropout come before.
    net = models.build("vgg8_tiny", 10, generator=torch.Generator().manual_seed(0))
    x = torch.randn(4, 3, 32, 32)
    group = NetworkGroup([net])
    entered = []
    net.head.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    assert torch.equal(group(x).features[0], entered[0])


def test_a_1x1_convolution_is_a_linear_layer():
    net = ConvHead()
    group = NetworkGroup([net])
    x = torch.randn(2, 3, 8, 8)
    assert group.shape == GroupShape(1, 4, (6,))
    torch.testing.assert_close(group(x).features[0], torch.relu(net.body(x)).mean((2, 3)))


def test_another_convolution_can_be_named_as_classifier():
    net = ConvHead(kernel=3)
    with pytest.raises(UserError, match=r"ConvHead: no linear layer runs; name the layer .* classifier=\"head\""):
        NetworkGroup([net])
    group = NetworkGroup([net], classifier="head")
    assert group.shape == GroupShape(1, 4, (6,))
    assert group(torch.randn(2, 3, 8, 8)).features[0].shape == (2, 6)


def test_a_last_linear_layer_that_is_not_the_classifier_is_refused():
    class Gated(ConvHead):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(4, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            return out * self.gate(out).mean()

    with pytest.raises(
        UserError, match=r"its last linear layer 'gate' has 7 outputs for 4 classes.*classifier=\"head\""
    ):
        NetworkGroup([Gated()])


def test_classifier_that_is_not_there_or_never_runs_is_refused():
    with pytest.raises(UserError, match=r"unknown classifier 'fcc': did you mean 'fc'"):
        NetworkGroup([tiny(0)], classifier="fcc")
    with pytest.raises(UserError, match="classifier 'unused' does not run in Swapped"):
        NetworkGroup([Swapped()], classifier="unused")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tuple", r"returned tuple: a peer must return one tensor of logits \[B, C\]"),
        ("cube", r"returned shape \[2, 1, 3\]: a peer must return logits \[2, C\]"),
        ("sum", r"returned shape \[1, 3\]: a peer must return logits \[2, C\]"),
    ],
)
def test_an_output_that_is_not_one_row_an_image_is_refused(what, message):
    with pytest.raises(UserError, match=message):
        NetworkGroup([Returns(what)])


def test_an_output_that_is_wrong_in_training_only_is_refused_when_it_comes():
    class Auxiliary(Swapped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            return (logits, logits) if self.training else logits

    group = NetworkGroup([Auxiliary()])
    with pytest.raises(UserError, match="a network returned tuple"):
        group.train()(torch.randn(2, 4))


def test_a_network_that_takes_no_usual_image_asks_for_an_example():
    class Picky(Swapped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1:] == (2, 2), "two by two"
            return super().forward(x.flatten(1))

    with pytest.raises(
        UserError, match=r"Picky does not run on zeros of shape \[2, 6\] or .*two by two.*pass example="
    ):
        NetworkGroup([Picky()])
    assert NetworkGroup([Picky()], example=torch.zeros(1, 2, 2)).shape.feature_widths == (6,)


def test_a_network_that_looks_at_values_is_probed_with_values():
    class Looking(Swapped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum().item() >= 0 else -x)

    assert NetworkGroup([Looking()]).shape.num_classes == 3


def test_networks_of_different_kinds_put_out_their_own_features():
    nets = [tiny(0), WideResNet(10, 2, 5, 1)]
    group = NetworkGroup(nets).eval()
    assert group.shape == GroupShape(2, 5, (48, 128))
    x = torch.randn(3, 1, 8, 8)
    outputs = group(x)
    assert outputs.logits_PBC.shape == (2, 3, 5)
    assert outputs.trunk_features is None
    for p, net in enumerate(nets):
        assert torch.equal(outputs.logits_PBC[p], net(x))
        assert torch.equal(net.fc(outputs.features[p]), outputs.logits_PBC[p])


def test_every_peer_sees_its_own_view():
    group = NetworkGroup([tiny(0), tiny(1)]).eval()
    views = (torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8))
    logits = group(views).logits_PBC
    assert torch.equal(logits[0], group.networks[0](views[0]))
    assert torch.equal(logits[1], group.networks[1](views[1]))
    assert torch.equal(group.run_peer(1, views[1]).logits_PBC[0], logits[1])


def test_wrong_views_are_refused():
    group = NetworkGroup([tiny(0), tiny(1)])
    x = torch.randn(3, 1, 8, 8)
    with pytest.raises(UserError, match="3 views for 2 peers: give one tensor for all peers, or one for each"):
        group([x, x, x])
    with pytest.raises(UserError, match=r"views of \[3, 2\] images: all views must show the same images"):
        group([x, x[:2]])


def test_groups_without_sense_are_refused():
    net = tiny(0)
    with pytest.raises(UserError, match="0 networks: a group has at least one peer"):
        NetworkGroup([])
    with pytest.raises(UserError, match="networks 0 and 2 are the same object: peers must own"):
        NetworkGroup([net, tiny(1), net])
    with pytest.raises(UserError, match=r"networks of \[5, 6\] classes: peers must agree"):
        NetworkGroup([net, tiny(1, num_classes=6)])
    with pytest.raises(UserError, match="peer 1 of a group of 1: give 0 to 0"):
        NetworkGroup([net]).student(1)


def test_construction_changes_neither_network_nor_random_state():
    net = tiny(0).train()
    net.layer1.eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    NetworkGroup([net])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
    assert not net.layer1.training


def test_student_is_a_copy_with_running_statistics_and_no_gradients():
    group = NetworkGroup([tiny(0), tiny(1)])
    x = torch.randn(4, 1, 8, 8)
    group(x).logits_PBC.sum().backward()
    group.eval()
    student = group.student(1)
    assert type(student) is type(group.networks[1])
    assert torch.equal(student(x), group(x).logits_PBC[1])
    assert all(p.grad is None for p in student.parameters())
    with torch.no_grad():
        student.fc.weight.zero_()
    assert group.networks[1].fc.weight.abs().sum() > 0


def test_networks_that_share_a_layer_are_refused():
    first, second = tiny(0), tiny(1)
    second.layer1 = first.layer1
    with pytest.raises(UserError, match=r"networks 0 and 1 share 'layer1.0.conv1.weight': peers must own"):
        NetworkGroup([first, second])
    # Statistics without a parameter are state too; constants are not.
    norm, relu = nn.BatchNorm1d(4, affine=False), nn.ReLU()
    with pytest.raises(UserError, match="networks 0 and 1 share '0': peers must own"):
        NetworkGroup([nn.Sequential(norm, nn.Linear(4, 3)) for _ in range(2)])
    relu.register_buffer("constant", torch.ones(4))
    assert NetworkGroup([nn.Sequential(relu, nn.Linear(4, 3)) for _ in range(2)]).shape.peers == 2


def test_a_network_that_changes_its_images_is_refused():
    class Normalises(nn.Sequential):
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    with pytest.raises(UserError, match="Normalises changes its input in place, which other peers read"):
        NetworkGroup([Normalises(nn.Linear(4, 3))])


def test_a_network_that_cannot_be_copied_is_refused():
    net = nn.Sequential(nn.Linear(4, 3))
    net.lock = threading.Lock()
    with pytest.raises(
        UserError, match=r"Sequential cannot be copied \(TypeError: cannot pickle '_thread.lock' object"
    ):
        NetworkGroup([net])


@pytest.mark.parametrize("layer", ["conv1", "layer3"])
def test_a_layer_that_makes_no_logits_is_no_classifier(layer):
    net = models.build("resnet8_tiny", 10, 1, torch.Generator().manual_seed(0))
    assert find_classifier(net, "fc", torch.empty(2, 1, 8, 8, device="meta"))[0].name == "fc"
    with pytest.raises(UserError, match=rf"classifier '{layer}' gives (12|48) outputs for 10 classes in "):
        find_classifier(net, layer, torch.empty(2, 1, 8, 8, device="meta"))
