"""Residual networks for small images: He et al. 2016, section 4.2, and the variants that the papers measured.

Shapes: images [B, in_channels, H, W] of any size, logits [B, C]. There are three stages, and the second and the third
halve the resolution. A shortcut that changes the shape is a 1x1 convolution with norm (He's option B): only this gives
the parameter counts of the OKDDip paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["BasicBlock", "Bottleneck", "ResNet"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norm around a shortcut; `planes` channels out."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, planes: int, stride: int, width_factor: int = 1) -> None:
        super().__init__()
        width = planes * width_factor
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, planes, H / stride, W / stride]."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with norm around a shortcut; 4 planes channels out, width_factor * planes inside."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, planes: int, stride: int, width_factor: int = 1) -> None:
        super().__init__()
        width, outputs = planes * width_factor, planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, 4 planes, H / stride, W / stride]."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """3x3 stem, three stages of residual blocks, global average pool, one linear classifier.

    Args:
        block: BasicBlock or Bottleneck.
        depths: blocks of each stage; n basic blocks give a depth of 6n + 2, n bottleneck blocks one of 9n + 2.
        num_classes: C.
        in_channels: channels of the images.
        planes: channels of the stages, before the block's expansion; the stem has the first of them.
        width_factor: widens the inside of every block (8 in `wrn20_8`, which torchvision calls width_per_group 64 * 8).
    """

    default_split: ClassVar[str] = "layer3"

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int,
        in_channels: int = 3,
        planes: Sequence[int] = (16, 32, 64),
        width_factor: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        stages, inputs = [], planes[0]
        for stage, (depth, p) in enumerate(zip(depths, planes, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            widths = [inputs] + [p * block.expansion] * (depth - 1)
            stages.append(nn.Sequential(*[block(w, p, s, width_factor) for w, s in zip(widths, strides, strict=True)]))
            inputs = p * block.expansion
        self.layer1, self.layer2, self.layer3 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(self.avgpool(out).flatten(1))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
