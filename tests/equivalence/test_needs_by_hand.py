"""What the needs give equals hand-made torch: averages, the mixed network, heads and maps."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

import probes
from codistill import methods, models
from codistill.execution import build
from codistill.peers import BranchedGroup, NetworkGroup
from codistill.types import Progress
from refusals import refusal

HALF = Progress(5, 10)
EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return probes.write_probes(tmp_path_factory.mktemp("probes"))


def made(own, group, probe, path="last", executor="loop", **options):
    generator = torch.Generator().manual_seed(5)
    method = methods.build(f"{own}:{probe}", group, generator=generator, path=path).double()
    found = build(executor, group, method, **options)
    found.train()
    return found


@pytest.mark.parametrize("kind", ["networks", "tree"])
@pytest.mark.parametrize("executor", ["loop", "recompute", "fused"])
def test_averages_are_those_of_the_formula(own, kind, executor):
    if (kind, executor) == ("tree", "fused"):
        return
    group = probes.group_of(kind)
    executor = made(own, group, "Averaged", executor=executor)
    optimizer = torch.optim.SGD(executor.parameters(), lr=0.1, momentum=0.9)
    mean = {}
    for t in range(14):
        (view,), labels = probes.batch_of(seed=t)
        optimizer.zero_grad()
        executor.train_step(view, labels, HALF)
        optimizer.step()
        executor.after_step()
        decay = min(1 - 1 / (t + 1), 0.9)
        for name, now in group.state_dict().items():
            old = mean.get(name, torch.zeros_like(now))
            mean[name] = decay * old + (1 - decay) * now if now.is_floating_point() else now.clone()
    assert decay == 0.9
    found = executor.averages.group.state_dict()
    assert found.keys() == mean.keys()
    assert {v.dtype for v in found.values()} == {torch.float64, torch.int64}
    for name, value in found.items():
        torch.testing.assert_close(value, mean[name], **EXACT, msg=name)
    (view,), labels = probes.batch_of(seed=99)
    _, outputs = executor.train_step(view, labels, HALF)
    for peer in range(probes.PEERS):
        twin = executor.averages.group.student(peer).eval()
        torch.testing.assert_close(outputs.averaged_logits_PBC[peer], twin(view), **EXACT)
    assert not outputs.averaged_logits_PBC.requires_grad
    assert not any(p.grad is not None or p.requires_grad for p in executor.averages.group.parameters())


@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
def test_mixed_logits_and_their_gradients_are_those_of_the_mean_weights(own, kind):
    group = probes.group_of(kind)
    executor = made(own, group, "Mixed")
    before = {k: v.clone() for k, v in group.named_buffers()}
    (view,), labels = probes.batch_of()
    students = [group.student(p).train() for p in range(probes.PEERS)]
    weights = [{n: p.detach().clone().requires_grad_() for n, p in s.named_parameters()} for s in students]
    mean = {n: sum(w[n] for w in weights) / probes.PEERS for n in weights[0]}
    expected = functional_call(copy.deepcopy(students[0]), mean, (view,))
    found = executor.mixed.run(view)
    torch.testing.assert_close(found, expected, **EXACT)
    assert all(torch.equal(v, before[k]) for k, v in group.named_buffers())
    seed = torch.randn(found.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found.backward(seed)
    expected.backward(seed)
    # A shared parameter collects the gradients of all peers that run through it.
    total, shared = {}, {}
    for peer in range(probes.PEERS):
        for name, parameter in group.peer_parameters(peer).items():
            total[id(parameter)] = total.get(id(parameter), 0) + weights[peer][name].grad
            shared[id(parameter)] = parameter
    assert len(shared) == len(list(group.parameters()))
    for key, parameter in shared.items():
        torch.testing.assert_close(parameter.grad, total[key], **EXACT)
    # Also where the step is taken by an executor, on top of the peers' own gradients.
    _, outputs = executor.train_step(view, labels, HALF)
    torch.testing.assert_close(outputs.mixed_logits.detach(), expected.detach(), **EXACT)


def test_the_mixed_network_leaves_frozen_statistics_of_a_peer_frozen(own):
    group = probes.group_of("networks")
    executor = made(own, group, "Mixed")
    norms = [m for m in group.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    (view,), labels = probes.batch_of()
    executor.train_step(view, labels, HALF)
    assert not any(norm.training for norm in norms)
    assert all(int(norm.num_batches_tracked) == 0 for norm in norms)


def test_the_mean_of_different_architectures_is_refused(own):
    nets = [models.build(name, 5, 3) for name in ("resnet8_tiny", "wrn10_1")]
    sentence = "peers 0 and 1 differ in architecture: give peers of one architecture."
    assert sentence in refusal(lambda: made(own, NetworkGroup(nets).double(), "Mixed"))


@pytest.mark.parametrize("executor", ["loop", "recompute"])
@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
@pytest.mark.parametrize("path", ["stem", "stage1.0", "stage2", "last"])
def test_maps_and_heads_are_those_of_hooks_on_the_plain_networks(own, kind, path, executor):
    group = probes.group_of(kind)
    executor = made(own, group, "Heads", path, executor)
    plain = [group.student(peer).train() for peer in range(probes.PEERS)]
    views, labels = probes.batch_of(count=probes.PEERS)
    _, outputs = executor.train_step(views, labels, HALF)
    heads = dict(group.heads.named_parameters())
    assert len(heads) == 2 * probes.PEERS
    for peer, net in enumerate(plain):
        left = []
        net.get_submodule("stage2" if path == "last" else path).register_forward_hook(
            lambda *a, left=left: left.append(a[2])
        )
        net(views[peer])
        if kind == "networks":
            torch.testing.assert_close(outputs.maps[path][peer], left[0], **EXACT)
        weight, bias = (v for n, v in heads.items() if n.split(".")[-2] == str(peer))
        expected = left[0].mean((2, 3)) @ weight.T + bias
        if kind == "networks":
            torch.testing.assert_close(outputs.head_logits[path][peer], expected, **EXACT)
        pooled = outputs.maps[path][peer].mean((2, 3))
        torch.testing.assert_close(outputs.head_logits[path][peer], pooled @ weight.T + bias, **EXACT)
        assert outputs.maps[path][peer].shape[1:] == group.shape.map_shapes[path][peer]
        assert not [n for n in dict(group.student(peer).named_modules()) if "after" in n or "head" in n]


@pytest.mark.parametrize("kind", ["branches", "tree"])
@pytest.mark.parametrize("path", ["stem", "stage1.0", "stage2"])
def test_maps_of_shared_parts_are_those_of_the_plain_network_on_one_view(own, kind, path):
    group = probes.group_of(kind)
    executor = made(own, group, "Maps", path)
    plain = [group.student(peer).train() for peer in range(probes.PEERS)]
    (view,), labels = probes.batch_of()
    _, outputs = executor.train_step(view, labels, HALF)
    for peer, net in enumerate(plain):
        left = []
        net.get_submodule(path).register_forward_hook(lambda *a, left=left: left.append(a[2]))
        net(view)
        torch.testing.assert_close(outputs.maps[path][peer], left[0], **EXACT)


def test_heads_are_absent_in_evaluation_and_say_so(own):
    executor = made(own, probes.group_of("networks"), "Heads")
    executor.train(False)
    (view,), labels = probes.batch_of()
    assert executor.predict(view).head_logits == {}
    assert "in evaluation mode there are none" in refusal(lambda: executor.train_step(view, labels, HALF))


def test_two_heads_whose_paths_look_alike_are_two_heads():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.a_0, self.values = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1)
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            return self.fc(self.values(self.a_0(self.a(x))).mean((2, 3)))

    group = NetworkGroup([Twins(), Twins()], example=torch.zeros(2, 3, 8, 8))
    group.provide(methods.Needs(heads=("a.0", "a_0", "values")))
    found = group(torch.zeros(2, 3, 8, 8)).head_logits
    assert {k: tuple(v.shape) for k, v in found.items()} == dict.fromkeys(("a.0", "a_0", "values"), (2, 2, 5))
    assert [head[0].in_features for head in group.heads.values()] == [4, 6, 6]


def test_heads_pool_wide_images_over_the_axes_they_were_tried_on():
    nets = [nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)) for _ in range(2)]
    group = NetworkGroup(nets, example=torch.zeros(2, 3, 16, 16))
    group.provide(methods.Needs(heads=("0",)))
    # As many rows as channels, and other columns.
    x = torch.randn(4, 3, 8, 6)
    outputs = group(x)
    (of_peers,) = group.heads.values()
    torch.testing.assert_close(outputs.head_logits["0"][1], of_peers[1](nets[1][0](x).mean((2, 3))))


def test_the_last_map_of_a_cut_stage_is_inside_the_branch_and_a_cut_stage_itself_is_refused():
    net, x = models.build("resnet14_tiny", 5, 3), torch.randn(2, 3, 16, 16)
    group = BranchedGroup(net, 2, "stage3.1" if hasattr(net, "stage3") else "layer3.1", torch.Generator())
    stage = next(iter(group.splits)).partition(".")[0]
    group.provide(methods.Needs(maps=("last",)))
    assert [tuple(m.shape) for m in group(x).maps["last"]] == [(2, 48, 4, 4)] * 2
    group.provide(methods.Needs(maps=(f"{stage}.0", f"{stage}.1")))
    assert group(x).maps.keys() == {f"{stage}.0", f"{stage}.1"}
    sentence = f"map '{stage}' is no module of its own here"
    assert sentence in refusal(lambda: group.provide(methods.Needs(maps=(stage,))))


@pytest.mark.parametrize("make", ["networks", "branches"])
def test_a_map_that_a_later_layer_changes_in_place_is_refused(make):
    def net():
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip

    example = torch.zeros(2, 3, 8, 8)
    group = (
        NetworkGroup([net(), net()], example=example)
        if make == "networks"
        else BranchedGroup(net(), 2, "3", example=example)
    )
    sentence = "map '1' is changed in place by a later layer: name that layer instead"
    assert sentence in refusal(lambda: group.provide(methods.Needs(maps=("1",))))
    for path in ("0", "2", "3"):
        group.provide(methods.Needs(maps=(path,)))
        assert group(torch.randn(2, 3, 8, 8)).maps.keys() == {path}


@pytest.mark.parametrize("kind", ["networks", "branches"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [("stage3", "unknown map 'stage3'"), ("", "unknown map ''"), ("flt", "unknown map 'flt'")],
)
def test_a_map_that_is_not_there_is_refused(own, kind, path, sentence):
    found = refusal(lambda: made(own, probes.group_of(kind), "Maps", path))
    assert repr(path) in found
    assert "map" in found


def test_the_mixed_network_of_fused_peers_keeps_away_from_the_wrong_kernel(own):
    def net():
        return nn.Sequential(nn.Conv2d(3, 8, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    scopes = []
    for probe in ("Averaged", "Mixed"):
        group = NetworkGroup([net(), net()], example=torch.zeros(2, 3, 8, 8)).double()
        scopes.append(type(made(own, group, probe, executor="fused")._safe).__name__)
    assert scopes == ["nullcontext", "_Safe"]
