"""Networks that come compiled or made parallel: a group takes what is inside, and hands out plain students."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import probes
from codistill import UserError, models
from codistill.peers import BranchedGroup, NetworkGroup, TreeGroup

# Torch itself reads `.grad` of what flows between layers as it traces.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
NAMES = probes.staged().state_dict().keys()
EXAMPLE = torch.zeros(2, 3, probes.SIZE, probes.SIZE)


@pytest.fixture(autouse=True)
def compiled_code_forgotten():
    yield
    torch.compiler.reset()


def compiled(net):
    net = torch.compile(net, backend="eager")
    net(EXAMPLE)
    return net


def compiled_in_place(net):
    net.compile(backend="eager")
    net(EXAMPLE)
    return net


def compiled_inside(net):
    net.stem = torch.compile(net.stem, backend="eager")
    net(EXAMPLE)
    return net


@pytest.mark.parametrize("wrap", [compiled, compiled_in_place, compiled_inside], ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("kind", ["networks", "branches", "tree"])
def test_compiled_networks_run_in_a_group_and_come_back_plain(kind, wrap):
    plain = probes.staged(0).eval()
    net = wrap(copy.deepcopy(plain))
    given = list(net.state_dict())
    make = {
        "networks": lambda: NetworkGroup([net, probes.staged(1)], example=EXAMPLE),
        "branches": lambda: BranchedGroup(net, 2, "stage2", example=EXAMPLE, keep_weights=True),
        "tree": lambda: TreeGroup(net, {"stage2": 2}, example=EXAMPLE, keep_weights=True),
    }
    with pytest.warns(UserWarning, match=r"network 0 is compiled; .* compile the group instead") as seen:
        group = make[kind]()
    assert len(seen) == 1
    assert seen[0].filename == __file__
    x = torch.randn(3, 3, probes.SIZE, probes.SIZE, generator=torch.Generator().manual_seed(0))
    outputs = group.eval()(x)
    student = group.student(0)
    assert type(student) is nn.Sequential
    assert student.state_dict().keys() == NAMES
    assert torch.equal(student(x), outputs.logits_PBC[0])
    assert torch.equal(student.stem(x), plain.stem(x))
    assert net(x).shape == (3, probes.CLASSES)
    if kind != "networks":  # whose networks become the group's own
        assert list(net.state_dict()) == given


def tiny():
    """A network of a class of its own, whose compiled code torch finds again for other networks of the class."""
    return models.build("resnet8_tiny", 3, 3).eval()


def test_a_group_of_networks_that_were_compiled_before_may_be_compiled():
    net = compiled(tiny())
    with pytest.warns(UserWarning, match="network 0 is compiled"):
        group = NetworkGroup([net, tiny()]).eval()
    wanted = group(EXAMPLE)
    group.compile(backend="eager")
    net(EXAMPLE)
    outputs = group(EXAMPLE)
    assert torch.equal(outputs.logits_PBC, wanted.logits_PBC)
    assert torch.equal(outputs.features[0], wanted.features[0])


def test_a_network_that_was_compiled_in_place_is_watched_like_any_other():
    net = compiled_in_place(tiny())
    wanted = net(EXAMPLE)
    with pytest.warns(UserWarning, match="network 0 is compiled"):
        group = NetworkGroup([net, tiny()]).eval()
    outputs = group(EXAMPLE)
    assert torch.equal(outputs.logits_PBC[0], wanted)
    assert outputs.features[0].shape == (2, 48)


def test_code_that_was_compiled_elsewhere_is_named_where_it_lacks_the_hooks():
    group = NetworkGroup([tiny(), tiny()]).eval()
    compiled(tiny())
    group.compile(backend="eager")
    with pytest.raises(UserError, match=r"compiled before it joined a group, so call torch.compiler.reset\(\)"):
        group(EXAMPLE)
    torch.compiler.reset()
    assert group(EXAMPLE).features[0].shape == (2, 48)


def test_data_parallel_is_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="networks \\[0, 1\\] are wrapped in DataParallel; .* wrap codistill.Joint"):
        group = NetworkGroup([nn.DataParallel(probes.staged(peer)) for peer in range(2)], example=EXAMPLE)
    assert group(EXAMPLE).logits_PBC.shape == (2, 2, probes.CLASSES)
    assert group.student(1).state_dict().keys() == NAMES


def test_a_network_and_its_wrapper_are_one_network():
    net = probes.staged()
    with (
        pytest.warns(UserWarning, match="network 1 is wrapped in DataParallel"),
        pytest.raises(UserError, match="networks 0 and 1 are the same object"),
    ):
        NetworkGroup([net, nn.DataParallel(net)], example=EXAMPLE)


def test_distributed_data_parallel_is_refused_since_gradients_would_no_longer_be_synchronised(tmp_path):
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(probes.staged())
        for make in (
            lambda: NetworkGroup([probes.staged(), wrapped], example=EXAMPLE),
            lambda: BranchedGroup(wrapped, 2, "stage2", example=EXAMPLE),
            lambda: TreeGroup(wrapped, {"stage2": 2}, example=EXAMPLE),
        ):
            with pytest.raises(
                UserError, match=r"network [01] is wrapped in DistributedDataParallel, .* wrap codistill"
            ):
                make()
    finally:
        distributed.destroy_process_group()
