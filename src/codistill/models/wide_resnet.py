"""Zagoruyko's wide residual networks (Zagoruyko & Komodakis 2016): WRN-d-k, norm and ReLU before every convolution.

Do not confuse them with `wrn20_8` of the OKDDip paper, which is a bottleneck ResNet (see resnet.py).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["PreActivationBlock", "WideResNet"]


class PreActivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice.

    If the shape changes, the shortcut is a 1x1 convolution without norm, applied after the first norm and ReLU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.keeps_shape = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if self.keeps_shape else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        active = torch.relu(self.bn1(x))
        out = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return out + (x if self.keeps_shape else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-widen: three groups of (depth - 4) / 6 blocks with 16, 32, 64 times `widen` channels.

    Args:
        depth: 6n + 4.
        widen: the factor k.
        num_classes: C.
        in_channels: channels of the images.
    """

    default_split: ClassVar[str] = "layer3"

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        assert depth % 6 == 4, depth
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        groups, inputs = [], 16
        for stage, planes in enumerate((16 * widen, 32 * widen, 64 * widen)):
            first = PreActivationBlock(inputs, planes, 1 if stage == 0 else 2)
            rest = [PreActivationBlock(planes, planes, 1) for _ in range((depth - 4) // 6 - 1)]
            groups.append(nn.Sequential(first, *rest))
            inputs = planes
        self.layer1, self.layer2, self.layer3 = groups
        self.bn = nn.BatchNorm2d(inputs)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.avgpool(torch.relu(self.bn(out))).flatten(1))
