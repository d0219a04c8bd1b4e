"""Small versions of the papers' networks, for images of 8 to 32 pixels and machines without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from codistill.models.densenet import DenseNet
from codistill.models.resnet import BasicBlock, Bottleneck, ResNet
from codistill.models.stem import replace_stem
from codistill.models.vgg import VGG
from codistill.models.wide_resnet import WideResNet

__all__ = ["TINY"]


def _mobilenet(num_classes: int, in_channels: int = 3, width_mult: float = 1.0) -> nn.Module:
    """MobileNetV2 with three stages; the stem keeps the resolution."""
    from torchvision.models import MobileNetV2  # imported here as in foreign.py

    # Expansion, channels, blocks, stride of every stage.
    settings = [[1, 12, 1, 1], [4, 24, 1, 2], [4, 48, 1, 2]]
    net = MobileNetV2(num_classes=num_classes, width_mult=width_mult, inverted_residual_setting=settings, dropout=0.0)
    return replace_stem(net, in_channels, stride=1)


TINY: dict[str, Callable[..., nn.Module]] = {
    "resnet8_tiny": partial(ResNet, BasicBlock, (1, 1, 1), planes=(12, 24, 48)),
    "resnet14_tiny": partial(ResNet, BasicBlock, (2, 2, 2), planes=(12, 24, 48)),
    "resnet11_tiny": partial(ResNet, Bottleneck, (1, 1, 1), planes=(8, 16, 32)),
    "resnet20_tiny": partial(ResNet, Bottleneck, (2, 2, 2), planes=(8, 16, 32)),
    "wrn11_2_tiny": partial(ResNet, Bottleneck, (1, 1, 1), planes=(8, 16, 32), width_factor=2),
    "wrn10_1": partial(WideResNet, 10, 1),
    "vgg8_tiny": partial(VGG, widths=(16, 32, 64, 64, 64), depths=(1, 1, 1, 1, 1)),
    "densenet16_8": partial(DenseNet, 2, 8),
    "mobilenet_v2_tiny": _mobilenet,
    "mobilenet_v2_tiny_x0.5": partial(_mobilenet, width_mult=0.5),
    "mobilenet_v2_tiny_x1.2": partial(_mobilenet, width_mult=1.2),
}
"""Basic, bottleneck, wide, VGG, dense and inverted-residual blocks, one or two per stage; called like `OWN`."""
