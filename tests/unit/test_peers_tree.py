"""Heads on a tree of shared layers, and the parameter counts of KDCL's table 3."""

import pytest
import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.peers import BranchedGroup, NetworkGroup, TreeGroup


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tree(splits: dict[str, int]) -> TreeGroup:
    return TreeGroup(models.build("resnet8_tiny", 5, 1, seeded(0)), splits, generator=seeded(1))


def millions(group: nn.Module) -> float:
    return round(sum(p.numel() for p in group.parameters()) / 1e6, 1)


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return models.TORCHVISION[name](num_classes=1000, in_channels=3)


def test_parameters_in_training_are_those_of_kdcl_table_3():
    assert millions(BranchedGroup(on_meta("resnet18"), 3, "layer4", seeded(0))) == 29.5
    assert millions(TreeGroup(on_meta("resnet18"), {"layer3": 2, "layer4": 2}, seeded(0))) == 40.5
    assert millions(NetworkGroup([on_meta("resnet18"), on_meta("mobilenet_v2_x1.2")])) == 16.4
    assert millions(NetworkGroup([on_meta("resnet18"), on_meta("resnet50")])) == 37.2


def test_heads_share_what_the_tree_says():
    group = tree({"layer2": 2, "layer3": 3})
    assert group.shape.peers == 6
    paths = [[id(part) for part in group.path(p)] for p in range(6)]
    assert len({path[0] for path in paths}) == 1
    assert [paths[p][1] == paths[0][1] for p in range(6)] == [True] * 3 + [False] * 3
    assert len({path[2] for path in paths}) == 6
    assert [len(level) for level in group.levels] == [2, 6]


def test_order_of_the_splits_is_that_of_execution():
    assert list(tree({"layer3": 2, "layer2": 3}).splits.items()) == [("layer2", 3), ("layer3", 2)]
    assert tree({"layer3": 2, "layer2": 3}).state_dict().keys() == tree({"layer2": 3, "layer3": 2}).state_dict().keys()


def test_every_head_is_the_plain_network_of_its_path():
    group = tree({"layer2": 2, "layer3": 2})
    x = torch.randn(4, 1, 8, 8)
    group.train()(x)
    group.eval()
    logits = group(x).logits_PBC
    for p in range(4):
        assert torch.equal(group.student(p)(x), logits[p])
        assert list(group.student(p).state_dict()) == list(models.build("resnet8_tiny", 5, 1).state_dict())
        assert not torch.equal(logits[p], logits[(p + 1) % 4])


def test_views_run_through_shared_parts_once_each():
    group, calls = tree({"layer2": 2, "layer3": 2}).eval(), []
    for level in [[group.trunk], *group.levels]:
        for part in level:
            part.register_forward_hook(lambda *_: calls.append(1))
    views = [torch.randn(4, 1, 8, 8) for _ in range(2)]
    outputs = group([views[0], views[0], views[1], views[0]])
    assert len(calls) == 2 + 3 + 4
    assert torch.equal(outputs.logits_PBC[2], group(views[1]).logits_PBC[2])


def test_rescaling_divides_at_every_split():
    group = tree({"layer2": 2, "layer3": 3}).eval()

    def gradients(rescale: bool) -> dict[str, torch.Tensor]:
        group.rescale_shared_gradients = rescale
        group.zero_grad()
        group(torch.ones(2, 1, 8, 8)).logits_PBC.square().sum().backward()
        return {name: p.grad.clone() for name, p in group.named_parameters()}

    plain, scaled = gradients(False), gradients(True)
    for name, gradient in plain.items():
        factor = {"trunk": 6, "levels.0": 3, "levels.1": 1}[name[:8] if name.startswith("levels") else "trunk"]
        torch.testing.assert_close(scaled[name] * factor, gradient)


def test_rescaling_by_hand_on_a_chain_of_numbers():
    # y = c b a x with one weight a layer; two children of b, two children each of c: dy/da = c b x, summed over four
    # heads and divided by 2 at both splits.
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)), nn.Linear(1, 2, bias=False))
    group = TreeGroup(net, {"1": 2, "2": 2}, generator=seeded(0))
    group.rescale_shared_gradients = True
    a, bs, tops = group.trunk, group.levels[0], group.levels[1]
    x = torch.tensor([[3.0]])
    group(x).logits_PBC.sum().backward()
    gain = [(top.get_submodule("3").weight.sum() * top.get_submodule("2").weight).item() for top in tops]
    b = [part.get_submodule("1").weight.item() for part in bs]
    by_hand = 3 * (b[0] * (gain[0] + gain[1]) / 2 + b[1] * (gain[2] + gain[3]) / 2) / 2
    assert a.get_submodule("0").weight.grad.item() == pytest.approx(by_hand, rel=1e-5)
    a_x = 3 * a.get_submodule("0").weight.item()
    assert bs[1].get_submodule("1").weight.grad.item() == pytest.approx(a_x * (gain[2] + gain[3]) / 2, rel=1e-5)


def test_trees_without_sense_are_refused():
    with pytest.raises(UserError, match="no splits: name at least one module"):
        tree({})
    with pytest.raises(UserError, match=r"split 'layer3' with 1 child\(ren\): give 2 or more"):
        tree({"layer2": 2, "layer3": 1})
    with pytest.raises(UserError, match=r"splits 'layer3' and 'layer3.0' begin at the same place"):
        tree({"layer3": 2, "layer3.0": 2})
