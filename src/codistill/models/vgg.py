"""VGG-16 for small images (Simonyan & Zisserman 2015, with norm): the network of the OKDDip paper's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from codistill.models.init import InitRule

__all__ = ["VGG"]


class VGG(nn.Module):
    """Five stages of 3x3 convolutions (with bias) and norm, each with a max pool; twice 512-ReLU-dropout; classifier.

    The features are the input of the head, as in the released code of OKDDip's authors, not the output of its dropout.
    The pools round up, so images smaller than 32 pixels work too; images of 32 pixels give exactly one position.

    Args:
        num_classes: C.
        in_channels: channels of the images.
        dropout: dropout rate in the head.
        widths: channels of the stages; the head has as many as the last stage.
        depths: convolutions of the stages.
    """

    default_split: ClassVar[str] = "stage5"
    feature_layer: ClassVar[str] = "head.0"
    released_init: ClassVar[InitRule] = InitRule(linear_std=0.01)

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        depths: Sequence[int] = (2, 2, 3, 3, 3),
    ) -> None:
        super().__init__()
        inputs = (in_channels, *widths[:-1])
        stages = [_stage(i, w, d) for i, w, d in zip(inputs, widths, depths, strict=True)]
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        D = widths[-1]
        self.head = nn.Sequential(
            nn.Linear(D, D), nn.ReLU(), nn.Dropout(dropout), nn.Linear(D, D), nn.ReLU(), nn.Dropout(dropout)
        )
        self.fc = nn.Linear(D, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        out = self.stage5(self.stage4(self.stage3(self.stage2(self.stage1(x)))))
        return self.fc(self.head(self.avgpool(out).flatten(1)))


def _stage(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convolutions):
        conv = nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, 1, 1)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))
