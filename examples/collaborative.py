"""Collaborative learning (CLNN, and CL-ILR, its case with one split) on one screen, in plain PyTorch.

Source: Song, Chai, "Collaborative Learning for Deep Neural Networks", NeurIPS 2018.

Several heads stand on a tree of shared layers. Each learns from the labels and from the mean of the OTHER heads:

    L = Σ_i CE(z_i, y) + w(e) · T² · Σ_i KL(t_i ‖ q'_i),    q' = softmax(z / T),    t_i = 1 / (m - 1) · Σ_{j≠i} q'_j

The targets t_i are detached. Where the tree splits, the gradient that flows back into the shared part is divided by the
number of children (back-propagation rescaling): it is a mean instead of a sum, so shared layers learn at the pace of
one network whatever the number of heads. w(e) ramps the soft term up while predictions are still poor (OKDDip's code).

Letters: P heads, B images, C classes, N images of a data set. Run it: python examples/collaborative.py (digits).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


def collaborative_loss(logits_PBC: Tensor, labels_B: Tensor, T: float = 3.0, ramp: float = 1.0) -> Tensor:
    """L, a scalar.

    Args:
        logits_PBC: the heads' outputs for the same images.
        labels_B: class indices.
        T: temperature.
        ramp: w(e).
    """
    P = len(logits_PBC)
    prob_PBC = functional.softmax(logits_PBC / T, dim=-1).detach()
    loss = logits_PBC.new_zeros(())
    for i in range(P):
        target_BC = (prob_PBC.sum(0) - prob_PBC[i]) / (P - 1)
        logp_BC = functional.log_softmax(logits_PBC[i] / T, dim=-1)
        loss = loss + functional.cross_entropy(logits_PBC[i], labels_B)
        loss = loss + ramp * T**2 * functional.kl_div(logp_BC, target_BC, reduction="batchmean")
    return loss


def ramp_up(epoch: float, epochs: float, share: float = 80 / 300) -> float:
    """w(e) = exp(-5 (1 - min(e / r, 1))²), r = `share` of the run (80 of 300 epochs in OKDDip's code)."""
    return math.exp(-5 * (1 - min(epoch / epochs / share, 1)) ** 2)


def rescale(x: Tensor, children: int) -> Tensor:
    """Return `x`; the gradient that comes back through it is divided by `children`."""
    y = x.view_as(x)
    if y.requires_grad:
        y.register_hook(lambda gradient: gradient / children)
    return y


class Tree(nn.Module):
    """A trunk, `splits[0]` copies of the middle part on it, and `splits[1]` heads on each: P = the product.

    (2, 2) is a CLNN of four heads; (1, 4) is CL-ILR, one trunk and four branches (a "split" of one changes nothing).
    """

    def __init__(self, splits: Sequence[int] = (2, 2), width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.splits = tuple(splits)
        self.trunk = nn.Sequential(*conv(1, width), *conv(width, 2 * width, stride=2))
        self.middles = nn.ModuleList(nn.Sequential(*conv(2 * width, 2 * width)) for _ in range(splits[0]))
        self.heads = nn.ModuleList(
            nn.Sequential(
                *conv(2 * width, 4 * width, stride=2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4 * width, num_classes),
            )
            for _ in range(math.prod(splits))
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] -> logits [P, B, C]; every shared part runs once."""
        shared = self.trunk(images)
        middles = [rescale(middle(rescale(shared, self.splits[0])), 1) for middle in self.middles]
        return torch.stack([head(rescale(middles[p // self.splits[1]], self.splits[1])) for p, head in self._numbered()])

    def _numbered(self) -> list[tuple[int, nn.Module]]:
        return list(enumerate(self.heads))


def conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Convolution, norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return layer, nn.BatchNorm2d(outputs), nn.ReLU()
