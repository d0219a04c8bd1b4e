"""DenseNets for small images (Huang et al. 2017): three dense blocks, with or without bottleneck and compression."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from codistill.models.init import InitRule

__all__ = ["DenseLayer", "DenseNet"]


class DenseLayer(nn.Module):
    """Norm, ReLU, convolution to `growth` new channels, appended to the input; with bottleneck a 1x1 one first."""

    def __init__(self, inputs: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        inner = 4 * growth if bottleneck else inputs
        squeeze = [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, inner, 1, bias=False)] if bottleneck else []
        grow = [nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, growth, 3, 1, 1, bias=False)]
        self.layers = nn.Sequential(*squeeze, *grow)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, inputs + growth, H, W]."""
        return torch.cat([x, self.layers(x)], dim=1)


class DenseNet(nn.Module):
    """Stem, three dense blocks with transitions (norm, ReLU, 1x1 convolution, average pool) between, norm, classifier.

    Args:
        layers: layers of each block; the depth is 3 * layers + 4, or 6 * layers + 4 with bottleneck.
        growth: channels k that each layer adds.
        num_classes: C.
        in_channels: channels of the images.
        bottleneck: True for DenseNet-BC: layers begin with a 1x1 convolution to 4k channels, transitions halve the
            channels, and the stem has 2k channels. False: transitions keep the channels, and the stem has 16.
    """

    default_split: ClassVar[str] = "block3"
    released_init: ClassVar[InitRule] = InitRule(conv_fan="in")

    def __init__(
        self, layers: int, growth: int, num_classes: int, in_channels: int = 3, bottleneck: bool = True
    ) -> None:
        super().__init__()
        channels = 2 * growth if bottleneck else 16
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.block1, channels = _block(layers, channels, growth, bottleneck)
        self.transition1, channels = _transition(channels, bottleneck)
        self.block2, channels = _block(layers, channels, growth, bottleneck)
        self.transition2, channels = _transition(channels, bottleneck)
        self.block3, channels = _block(layers, channels, growth, bottleneck)
        self.bn = nn.BatchNorm2d(channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        out = self.transition1(self.block1(self.conv1(x)))
        out = self.block3(self.transition2(self.block2(out)))
        return self.fc(self.avgpool(torch.relu(self.bn(out))).flatten(1))


def _block(layers: int, inputs: int, growth: int, bottleneck: bool) -> tuple[nn.Sequential, int]:
    block = nn.Sequential(*[DenseLayer(inputs + i * growth, growth, bottleneck) for i in range(layers)])
    return block, inputs + layers * growth


def _transition(inputs: int, compress: bool) -> tuple[nn.Sequential, int]:
    outputs = inputs // 2 if compress else inputs
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv, nn.AvgPool2d(2, ceil_mode=True)), outputs
