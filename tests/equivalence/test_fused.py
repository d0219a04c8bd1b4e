"""The fused executor agrees with `loop`, keeps the plain networks alive, and refuses what it cannot fuse by name."""

import copy

import pytest
import torch
from torch import nn

from codistill import methods, models
from codistill.errors import UserError
from codistill.execution import FusedExecutor, LoopExecutor
from codistill.execution.fusing import FusedNetwork
from codistill.execution.layers import FirstConv2d
from codistill.peers import BranchedGroup, NetworkGroup, TreeGroup
from codistill.types import Progress

NETWORKS = ["resnet8_tiny", "vgg8_tiny", "densenet16_8", "wrn10_1", "mobilenet_v2_tiny"]
PEERS, CLASSES, BATCH = 2, 5, 6


class Views(nn.Module):
    """All that the zoo does not do: shapes by number, means, grouped norms, functions, biases, vectors normalised."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, groups=1, padding=1, padding_mode="reflect")
        self.norm = nn.GroupNorm(4, 8)
        self.again = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.linear = nn.Linear(8 * 16 + 8, 12, bias=False)
        self.batch = nn.BatchNorm1d(12)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = nn.functional.gelu(self.norm(self.conv(x)))
        x = x * torch.sigmoid(self.again(x)) + 0.5
        x = nn.functional.avg_pool2d(x, 1)
        pooled = x.mean((2, 3))
        both = torch.cat([x.view(x.size(0), -1), pooled.reshape(x.shape[0], -1)], dim=1)
        return self.fc(self.batch(self.linear(both)).relu())


def network(name, seed):
    if name == "views":
        return models.initialise(Views(), torch.Generator().manual_seed(seed))
    return models.build(name, CLASSES, 3, generator=torch.Generator().manual_seed(seed))


def group_of(name, kind, peers=PEERS):
    if kind == "branches":
        group = BranchedGroup(network(name, 0), branches=peers, generator=torch.Generator().manual_seed(9))
    else:
        nets = [network(name, peer) for peer in range(peers)]
        group = NetworkGroup(nets, example=torch.zeros(2, 3, 8, 8))
    for part in group.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return group.double()


def train(executor_class, group, method_name, steps=3, icl_step=1):
    """Some steps of SGD; the gradients of the last one, all state, and what the group predicts afterwards."""
    method = methods.build(method_name, group, generator=torch.Generator().manual_seed(5)).double()
    executor = executor_class(group.train(), method)
    trained = [*group.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(trained, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        count = group.shape.peers if step == icl_step else 1
        views = torch.randn(count, BATCH, 3, 8, 8, generator=generator, dtype=torch.float64).unbind()
        labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        out, outputs = executor.train_step(views if count > 1 else views[0], labels, Progress(5, 10))
        gradients = {name: p.grad.clone() for name, p in group.named_parameters() if p.grad is not None}
        optimizer.step()
    group.eval()
    predicted = executor.predict(torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64))
    momentum = {str(at): state["momentum_buffer"] for at, state in enumerate(optimizer.state.values())}
    found = {"loss": out.loss.detach(), "logits": outputs.logits_PBC, "predicted": predicted.logits_PBC}
    found |= {f"feature {p}": h for p, h in enumerate((*outputs.features, *predicted.features))}
    return {**found, **gradients, **{f"state {k}": v for k, v in group.state_dict().items()}, **momentum}


def assert_agree(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(
            found[name], value, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.mark.parametrize("kind", ["networks", "branches"])
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_peers_train_as_the_loop_trains_them(name, kind):
    method = "one" if kind == "branches" else "dml"
    expected = train(LoopExecutor, group_of(name, kind), method)
    assert any("num_batches_tracked" in key for key in expected)
    assert_agree(train(FusedExecutor, group_of(name, kind), method), expected)


def test_deep_fused_peers_train_as_the_loop_trains_them():
    expected = train(LoopExecutor, group_of("resnet32", "networks"), "dml", steps=1)
    assert_agree(train(FusedExecutor, group_of("resnet32", "networks"), "dml", steps=1), expected)


def test_fused_peers_of_a_network_of_ones_own_train_as_the_loop_trains_them():
    expected = train(LoopExecutor, group_of("views", "networks", 3), "okddip")
    assert_agree(train(FusedExecutor, group_of("views", "networks", 3), "okddip"), expected)


@pytest.mark.parametrize("kind", ["networks", "branches"])
def test_an_input_that_peers_share_need_not_be_repeated(monkeypatch, kind):
    expected = train(LoopExecutor, group_of("resnet8_tiny", kind), "dml")
    widths, forward = set(), FirstConv2d.forward

    class OnGpu(FusedExecutor):
        def __init__(self, *args):
            super().__init__(*args)
            self.network.repeats = False

    monkeypatch.setattr(FirstConv2d, "forward", lambda self, x: widths.add(x.shape[1]) or forward(self, x))
    assert_agree(train(OnGpu, group_of("resnet8_tiny", kind), "dml"), expected)
    # Views of their own, in one of the steps, lie side by side.
    assert max(widths) == PEERS * min(widths)


def test_a_first_layer_that_cannot_take_a_shared_input_gets_it_repeated():
    group = group_of("views", "networks")
    assert FusedExecutor(group, methods.build("dml", group)).network.repeats


def test_every_fused_peer_drops_units_of_its_own(monkeypatch):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))
    net = models.initialise(net, torch.Generator().manual_seed(0))
    # Two peers with one set of weights: only their masks can tell them apart.
    group = NetworkGroup([copy.deepcopy(net), copy.deepcopy(net)])
    drawn, draw = [], nn.functional.dropout

    def record(x, p, training, inplace):
        drawn.append(draw(torch.ones_like(x), p, training))
        return x * drawn[-1]

    def replay(x, p, training, inplace):
        return x * replayed.pop(0)

    views, labels = torch.randn(BATCH, 3, 8, 8), torch.zeros(BATCH, dtype=torch.int64)
    fused = copy.deepcopy(group)
    executor = FusedExecutor(fused, methods.build("dml", fused))
    monkeypatch.setattr(nn.functional, "dropout", record)
    _, outputs = executor.train_step(views, labels, Progress(0, 1))
    replayed = list(drawn[0].chunk(2, dim=1))
    assert not torch.equal(*replayed)
    monkeypatch.setattr(nn.functional, "dropout", replay)
    _, expected = LoopExecutor(group, methods.build("dml", group)).train_step(views, labels, Progress(0, 1))
    torch.testing.assert_close(outputs.logits_PBC, expected.logits_PBC)
    for a, b in zip(fused.parameters(), group.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("kind", ["networks", "branches"])
def test_plain_networks_stay_alive_beside_the_fused_one(kind):
    group = group_of("resnet8_tiny", kind)
    method = methods.build("dml", group)
    executor = FusedExecutor(group, method)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    other = group_of("resnet8_tiny", kind)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    group.load_state_dict(other.state_dict())
    group.eval()
    predicted = executor.predict(x).logits_PBC
    torch.testing.assert_close(predicted, group(x).logits_PBC.float())
    torch.testing.assert_close(predicted[1], group.student(1)(x).float())


def test_gradients_are_added_to_those_that_are_there():
    group = group_of("resnet8_tiny", "networks")
    executor = FusedExecutor(group, methods.build("dml", group))
    x, labels = torch.randn(BATCH, 3, 8, 8, dtype=torch.float64), torch.zeros(BATCH, dtype=torch.int64)
    executor.train_step(x, labels, Progress(0, 1))
    once = [p.grad.clone() for p in group.parameters()]
    executor.train_step(x, labels, Progress(0, 1))
    for parameter, gradient in zip(group.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_one_fused_student_alone_gets_gradient_when_asked():
    group = group_of("resnet8_tiny", "networks", 3)
    executor = FusedExecutor(group, methods.build("dml", group))
    x, labels = torch.randn(BATCH, 3, 8, 8, dtype=torch.float64), torch.zeros(BATCH, dtype=torch.int64)
    executor.train_step(x, labels, Progress(0, 1), turn=1)
    assert all(p.grad is None for net in (group.networks[0], group.networks[2]) for p in net.parameters())
    assert max(p.grad.abs().max() for p in group.networks[1].parameters()) > 0


def test_teachers_answer_beside_fused_students():
    outputs = []
    for executor_class in (LoopExecutor, FusedExecutor):
        group = group_of("resnet8_tiny", "networks")
        executor = executor_class(
            group, methods.build("kd", group, teachers=1), teachers=[network("resnet8_tiny", 7).double()]
        )
        x = torch.randn(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        step, seen = executor.train_step(x, torch.zeros(BATCH, dtype=torch.int64), Progress(0, 1))
        outputs.append((step.loss.detach(), seen.teacher_logits_KBC))
    torch.testing.assert_close(outputs[0], outputs[1])


class Odd(nn.Module):
    """A network with one operation that cannot be fused."""

    def __init__(self, operation):
        super().__init__()
        self.conv, self.operation, self.fc = nn.Conv2d(3, 8, 8), operation, nn.Linear(8, CLASSES)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return self.fc(self.operation(self, self.conv(x).flatten(1)))


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda net, x: x.softmax(1), "operation 'softmax' in 'Odd'"),
        (lambda net, x: x.view(-1, 8), "operation 'view'"),
        (lambda net, x: torch.cat([x, x]).chunk(2)[0], "operation 'cat_peers'|operation 'cat'"),
        (lambda net, x: x * net.scale, "tensor 'scale', which is not a layer's, in Odd"),
        (lambda net, x: x if x.sum() > 0 else -x, "torch.fx cannot trace the forward of Odd"),
        (lambda net, x: x * x.shape[1], "operation 'getattr'"),
        (lambda net, x: net.fc(x).mean(1, keepdim=True) + x, "operation 'mean'"),
    ],
)
def test_an_operation_that_cannot_be_fused_is_refused_by_name(operation, named):
    group = NetworkGroup([Odd(operation), Odd(operation)], example=torch.zeros(2, 3, 8, 8))
    with pytest.raises(UserError, match=named):
        FusedExecutor(group, methods.build("dml", group))


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.LayerNorm(8), r"layer 'operation' \(LayerNorm\)"),
        (nn.BatchNorm1d(8, momentum=None), r"layer 'operation' \(BatchNorm1d\)"),
        (nn.Softmax(1), r"layer 'operation' \(Softmax\)"),
    ],
)
def test_a_layer_that_cannot_be_fused_is_refused_by_name(layer, named):
    class Net(Odd):
        def forward(self, x):
            return self.fc(self.operation(self.conv(x).flatten(1)))

    group = NetworkGroup([Net(copy.deepcopy(layer)) for _ in range(2)], example=torch.zeros(2, 3, 8, 8))
    with pytest.raises(UserError, match=named):
        FusedExecutor(group, methods.build("dml", group))


def test_a_classifier_of_another_kind_is_refused_by_name():
    class Head(nn.Linear):
        def forward(self, x):
            return super().forward(2 * x)

    group = NetworkGroup([nn.Sequential(nn.Flatten(), Head(192, CLASSES)) for _ in range(2)])
    with pytest.raises(UserError, match=r"cannot fuse the feature layer '1' \(Head\)"):
        FusedExecutor(group, methods.build("dml", group))


def test_groups_that_are_not_of_one_architecture_are_refused():
    mixed = NetworkGroup([network("resnet8_tiny", 0), network("wrn16_2", 0)])
    with pytest.raises(UserError, match="cannot fuse peers 0 and 1, ResNet and WideResNet of different layers"):
        FusedExecutor(mixed, methods.build("dml", mixed))
    tree = TreeGroup(network("resnet8_tiny", 0), {"layer2": 2, "layer3": 2})
    with pytest.raises(UserError, match="cannot fuse a tree of several splits"):
        FusedExecutor(tree, methods.build("dml", tree))


def test_a_parameter_of_two_layers_is_refused():
    def tied():
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5))
        net[3].weight = net[2].weight
        return net

    group = NetworkGroup([tied(), tied()], example=torch.zeros(2, 3, 8, 8))
    with pytest.raises(UserError, match="a parameter that two layers share"):
        FusedExecutor(group, methods.build("dml", group))


def test_channels_that_would_meet_across_peers_are_noticed():
    class Gate(nn.Module):
        """One channel weighs all others, which broadcasting would stretch over peers."""

        def __init__(self, channels):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 1, 1)
            self.fc = nn.Linear(channels, CLASSES)

        def forward(self, x):
            x = self.conv(x)
            return self.fc((x * torch.sigmoid(self.gate(x))).mean((2, 3)))

    for channels, reason in ((4, "size of tensor"), (1, None)):
        group = NetworkGroup([Gate(channels), Gate(channels)], example=torch.zeros(2, 3, 8, 8)).train()
        if reason is None:
            FusedExecutor(group, methods.build("dml", group))
        else:
            with pytest.raises(UserError, match=f"cannot fuse peers of this architecture .*{reason}"):
                FusedExecutor(group, methods.build("dml", group))
        assert all(part.training for part in group.modules())


def test_a_fused_network_with_other_outputs_is_refused(monkeypatch):
    group, forward = group_of("resnet8_tiny", "networks"), FusedNetwork.forward

    def swapped(network, x):
        logits, features = forward(network, x)
        return logits.flip(0), features

    monkeypatch.setattr(FusedNetwork, "forward", swapped)
    with pytest.raises(UserError, match="its outputs would be others"):
        FusedExecutor(group, methods.build("dml", group))
    # Networks that overflow on random images prove nothing.
    overflowing = group_of("resnet8_tiny", "networks")
    for network in overflowing.networks:
        nn.init.constant_(network.fc.bias, torch.inf)
        network.conv1.weight.data.mul_(torch.inf)
    FusedExecutor(overflowing, methods.build("dml", overflowing))
