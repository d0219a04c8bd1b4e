"""torchvision, timm and files: names, channels, refusals."""

import sys

import pytest
import torch
from torch import nn

from codistill import models
from codistill.errors import UserError
from codistill.models.stem import replace_stem

FILE = """
import torch
from torch import nn

def make(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 4, num_classes))

def wrong(classes):
    return nn.Identity()

def nothing(num_classes, in_channels):
    return 3

def frozen(num_classes, in_channels):
    return make(num_classes, in_channels).requires_grad_(False)

def broken(num_classes, in_channels):
    return nn.Linear(in_channels, num_classes, biass=True)

net = make(3, 3)
"""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5"])
def test_torchvision_stem_takes_other_channels(name):
    rgb = models.build(name, 4, generator=seeded(0))
    grey = models.build(name, 4, in_channels=1, generator=seeded(0)).eval()
    assert grey(torch.randn(2, 1, 32, 32)).shape == (2, 4)
    first = next(m for m in rgb.modules() if isinstance(m, nn.Conv2d))
    stem = next(m for m in grey.modules() if isinstance(m, nn.Conv2d))
    assert stem.weight.shape == (first.out_channels, 1, *first.kernel_size)
    assert (stem.stride, stem.padding, stem.bias is None) == (first.stride, first.padding, first.bias is None)


def test_auxiliary_heads_of_torchvision_are_off():
    net = models.build("torchvision:googlenet", 4, generator=seeded(0))
    assert isinstance(net.train()(torch.randn(2, 3, 32, 32)), torch.Tensor)


def test_stem_that_cannot_be_replaced_is_refused():
    with pytest.raises(UserError, match=r"Linear with 1 channels: it has no plain first convolution"):
        replace_stem(nn.Linear(2, 2), 1)
    with pytest.raises(UserError, match="no plain first convolution"):
        replace_stem(nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), 1)


def test_unknown_torchvision_name_is_refused():
    with pytest.raises(UserError, match=r"unknown torchvision model 'resnet19': did you mean .*'resnet18'"):
        models.build("torchvision:resnet19", 4)
    with pytest.raises(UserError, match="unknown torchvision model"):
        models.build("torchvision:fcn_resnet50", 4)


def test_timm_network_has_the_asked_classes_and_channels():
    pytest.importorskip("timm")
    net = models.build("timm:mobilenetv3_small_050", 4, in_channels=1, generator=seeded(0)).eval()
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 4)
    with pytest.raises(UserError, match="unknown timm model 'resnet1888'"):
        models.build("timm:resnet1888", 4)
    with pytest.raises(
        UserError, match=r"model 'timm:resnet18.nope': Invalid pretrained tag \(nope\) for resnet18; see"
    ):
        models.build("timm:resnet18.nope", 4)


def test_missing_timm_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"model 'timm:resnet18' needs timm.*pip install 'codistill\[timm\]'"):
        models.build("timm:resnet18", 4)


def test_function_of_a_file_builds_the_network_from_the_generator(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    first, same, other = (models.build(f"{path}:make", 3, 2, seeded(s)) for s in (0, 0, 1))
    assert first(torch.randn(5, 2, 2, 2)).shape == (5, 3)
    assert torch.equal(first[1].weight, same[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("maek", "unknown name in .*nets.py 'maek': did you mean 'make'"),
        ("wrong", r"write it as function\(num_classes, in_channels\) -> nn.Module"),
        ("nothing", "returned int: it must return an nn.Module"),
        ("net", r"is not a function: write function\(num_classes, in_channels\)"),
        ("frozen", "has no parameter to train: keep requires_grad=True for those that should learn"),
        ("broken", r"nets.py:broken' failed \(TypeError, line 18: .*'biass'.*\)"),
    ],
)
def test_a_file_that_does_not_give_a_network_is_refused(tmp_path, function, message):
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    with pytest.raises(UserError, match=message):
        models.build(f"{path}:{function}", 3)


def test_a_file_without_a_function_is_refused_with_the_form():
    with pytest.raises(UserError, match=r"model 'nets.py' is incomplete: add the function, nets.py:FUNCTION"):
        models.build("nets.py", 3)


def test_a_missing_file_is_refused():
    with pytest.raises(UserError, match=r"there is no file no/where.py; give path/to/file.py:Name"):
        models.build("no/where.py:make", 3)
