"""What may cross a cut, and which cuts are refused, on small networks that each show one thing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from codistill import models
from codistill.errors import UserError
from codistill.peers import BranchedGroup, TreeGroup, default_split


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_branch(net: nn.Module, split: str) -> BranchedGroup:
    """A group of one branch with the weights of the network that it was made from."""
    group = BranchedGroup(net, 1, split, seeded(0))
    for part in group.path(0):
        part.load_state_dict({key: net.state_dict()[key] for key in part.state_dict()})
    return group


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 3)


class Skips(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        return self.fc(torch.relu(self.second(h)) + h * x)


class Sizes(Base):
    """Reads the batch size of the images after the cut, and a size before it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[1] // 2
        h = self.second(torch.relu(self.first(x)))
        return self.fc(h.view(x.size(0), 2, half).flatten(1))


class PassesSizes(Base):
    """A module returns a size next to its tensor, as the patch embeddings of many transformers do."""

    class WithSize(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
            return super().forward(x), [x.shape[0], 4]

    def __init__(self) -> None:
        super().__init__()
        self.first = self.WithSize(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, size = self.first(x)
        h = torch.relu(h)
        return self.fc(self.second(h).reshape(size))


class Tokens(Base):
    """Parameters of the root on both sides of the cut, a buffer, a constant, a defaulted argument."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.shift = nn.Parameter(torch.randn(4))
        self.register_buffer("factor", torch.tensor(0.5))
        self.register_buffer("hidden", torch.tensor(2.0), persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), self.first(x)[:, None]], dim=1) * self.factor
        if mask is not None:
            h = h * mask
        if self.shift.shape[0] == 4:
            h = self.second(h) + self.shift
        return self.fc(h[:, 0] * self.factor * self.hidden + torch.tensor(1.0))


class FunctionalDropout(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.dropout(self.first(x), 0.5, training=self.training)
        return self.fc(F.dropout(self.second(h), 0.5, training=self.training))


class Iterates(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for row in self.first(x):
            x = x + row
        return self.fc(self.second(x))


class Reuses(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.first(self.second(self.first(x))))


class Statistics(Base):
    """One batch norm without parameters, before and after the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.second(self.norm(self.first(x)))))


class ReturnsPair(Base):
    def forward(self, x: torch.Tensor) -> object:
        logits = self.fc(self.second(self.first(x)))
        return (logits, logits) if self.training else logits


class CrossesTuple(PassesSizes):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.last(self.first(x))[0])


class Block(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class SharedAngles(Base):
    """Computes a position embedding once, for the layers on both sides of the cut, as rotary transformers do."""

    def __init__(self, learnt: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5), requires_grad=learnt)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = torch.cos(torch.arange(x.shape[1], device=x.device) * self.scale)
        h = self.first(x) * angles
        return self.fc(torch.relu(self.second(h)) * angles)


@pytest.mark.parametrize("net_class", [Sizes, PassesSizes, Tokens, SharedAngles])
def test_sizes_parameters_and_constants_come_through_the_cut(net_class):
    net = net_class()
    group = plain_branch(net, "second")
    for batch in (2, 5):
        x = torch.randn(batch, 4)
        assert torch.equal(group(x).logits_PBC[0], net(x))
        assert torch.equal(group.student(0)(x), net(x))
    names = {key for part in group.path(0) for key in part.state_dict()}
    assert names == net.state_dict().keys()


def test_a_position_embedding_that_learns_does_not_come_through_the_cut():
    with pytest.raises(UserError, match=r"2 tensors cross it, from 'cos' and 'mul_1'"):
        BranchedGroup(SharedAngles(learnt=True), 2, "second")


def test_noise_drawn_in_a_branch_is_its_own():
    class Noisy(Base):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            out = self.second(h)
            return self.fc(out + torch.empty_like(h).normal_())

    group = BranchedGroup(Noisy(), 2, "second", seeded(0))
    group.levels[0][1].load_state_dict(group.levels[0][0].state_dict())
    logits = group(torch.randn(2, 4)).logits_PBC
    assert not torch.equal(logits[0], logits[1])


def test_parameters_of_the_root_belong_to_the_side_that_uses_them():
    group = BranchedGroup(Tokens(), 2, "second", seeded(0))
    assert "token" in group.trunk.state_dict()
    assert all("shift" in branch.state_dict() for branch in group.levels[0])
    assert "shift" not in group.trunk.state_dict()
    assert group.double()(torch.randn(2, 4).double()).logits_PBC.dtype == torch.float64


def test_a_forward_that_reads_the_mode_keeps_doing_so():
    net = FunctionalDropout()
    group = plain_branch(net, "second")
    x = torch.randn(8, 4)
    assert torch.equal(group.eval()(x).logits_PBC[0], net.eval()(x))
    torch.manual_seed(0)
    expected = net.train()(x)
    torch.manual_seed(0)
    assert torch.equal(group.train()(x).logits_PBC[0], expected)
    assert not torch.equal(expected, net.eval()(x))


def test_a_cut_through_a_skip_connection_is_refused_and_named():
    with pytest.raises(
        UserError, match=r"split 'second' cuts through a skip .* 2 tensors cross it, from the images and 'fi"
    ):
        BranchedGroup(Skips(), 2, "second")
    net = models.build("resnet8_tiny", 5, 1, seeded(0))
    with pytest.raises(
        UserError,
        match=r"'layer3.0.conv2' cuts .* 2 .*'layer2' and 'relu_1' in 'layer3.0'; .*block around it, 'layer3.0'",
    ):
        BranchedGroup(net, 2, "layer3.0.conv2")


def test_two_tensors_of_one_module_are_named_by_the_module():
    class Halves(nn.Linear):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return list(super().forward(x).chunk(2, dim=1))

    class Two(Base):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            halves = self.first(x)
            left, right = halves[0], halves[1]
            return self.fc(self.second(torch.cat([left, left], 1)) + right.sum())

    net = Two()
    net.first = Halves(4, 4)
    with pytest.raises(UserError, match=r"2 tensors cross it, from 'cat' and 'first'|2 .* from 'first' and 'cat'"):
        BranchedGroup(net, 2, "second")


def test_a_cut_between_blocks_inside_a_stage_is_allowed():
    net = nn.Sequential(Block(), Block(), nn.Linear(4, 3))
    assert BranchedGroup(net, 2, "1", seeded(0)).shape.trunk_width == 4
    with pytest.raises(UserError, match=r"'1.second' cuts .* from '0' and '1.first'; split at the block .*, '1'"):
        BranchedGroup(net, 2, "1.second")


def test_unknown_split_is_refused_with_candidates():
    net = models.build("resnet8_tiny", 5, 1, seeded(0))
    with pytest.raises(UserError, match=r"unknown split 'layer9': did you mean 'layer"):
        BranchedGroup(net, 2, "layer9")
    with pytest.raises(UserError, match=r"unknown split 'qqq': choose one of: conv1, bn1, layer1, layer1.0, layer2"):
        BranchedGroup(net, 2, "qqq")


@pytest.mark.parametrize(
    ("net", "split", "message"),
    [
        (Base(), "second", "Base"),
        (Iterates(), "second", r"torch.fx cannot trace .* Iterates around it \(Proxy [^.]* iterated\); cho"),
        (Reuses(), "second", "split 'second': 'first.weight' is used before and after it"),
        (Statistics(), "second", "split 'second': 'norm' is used before and after it, so no branch can own it"),
        (ReturnsPair(), "second", r"the network returns a tuple: a peer must return one tensor of logits \[B, C\]"),
        (CrossesTuple(), "last", "split 'last': a tuple crosses it, and one tensor must"),
        (Sizes(), "first", "split 'first' is where the network begins, so nothing would be shared"),
    ],
    ids=["no forward", "control flow", "shared layer", "shared statistics", "pair", "tuple", "nothing shared"],
)
def test_cuts_that_make_no_branches_are_refused(net, split, message):
    with pytest.raises(UserError, match=message):
        BranchedGroup(net, 2, split)


def test_a_split_that_never_runs_is_refused():
    net = Sizes()
    net.idle = nn.Sequential(nn.Linear(4, 4))
    for split in ("idle", "idle.0"):
        with pytest.raises(UserError, match=rf"split '{split}' never runs .* such as first, second, fc"):
            BranchedGroup(net, 2, split)


def test_a_split_after_the_classifier_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(UserError, match="split '2' comes after the classifier '1': every branch must own one"):
        BranchedGroup(net, 2, "2")


def test_splits_whose_order_depends_on_the_mode_are_refused():
    class Turns(Base):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order = [self.second, self.third] if self.training else [self.third, self.second]
            return self.fc(order[1](order[0](self.first(x))))

    net = Turns()
    net.third = nn.Linear(4, 4)
    with pytest.raises(UserError, match=r"splits \['second', 'third'\] run in a different order in evaluation"):
        TreeGroup(net, {"second": 2, "third": 2})


def test_a_layer_that_never_runs_stays_in_the_student():
    net = Sizes()
    net.idle = nn.Linear(2, 2)
    student = BranchedGroup(net, 2, "second", seeded(0)).student(1)
    assert torch.equal(student.idle.weight, net.idle.weight)


def test_default_split_is_the_networks_own_word_first():
    net = Sizes()
    with pytest.raises(
        UserError, match="Sizes has no default split: name the module where branches begin: first, second"
    ):
        default_split(net)
    net.default_split = "second"
    assert default_split(net) == "second"
    assert list(BranchedGroup(net, 2).splits) == ["second"]
