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
        shared = rescale(self.trunk(images), self.splits[0])
        middles = [rescale(middle(shared), self.splits[1]) for middle in self.middles]
        return torch.stack([head(middles[p // self.splits[1]]) for p, head in enumerate(self.heads)])


def conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Convolution, norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return layer, nn.BatchNorm2d(outputs), nn.ReLU()


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels: 1437 and 360 scans of 8 × 8."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(digits, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:360], order[360:]
    return images[train], labels[train], images[test], labels[test]


@torch.no_grad()
def show_errors(tree: Tree, images: Tensor, labels_N: Tensor) -> None:
    """Print the error of every head and of the mean of their probabilities, in percent."""
    tree.eval()
    prob_PNC = tree(images).softmax(-1)
    error_P = 100 * (prob_PNC.argmax(-1) != labels_N).float().mean(-1)
    print("students: " + "  ".join(f"{error:.2f} %" for error in error_P))
    print(f"ensemble: {100 * (prob_PNC.mean(0).argmax(-1) != labels_N).float().mean():.2f} %")


def main(epochs: int = 10) -> None:
    """Train four heads on a tree and print their errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()
    tree = Tree(splits=(2, 2))
    optimizer = torch.optim.SGD(tree.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        tree.train()
        for index_B in torch.randperm(len(train_labels_N)).split(64):
            optimizer.zero_grad()
            logits_PBC = tree(train_images[index_B])
            collaborative_loss(logits_PBC, train_labels_N[index_B], ramp=ramp_up(epoch, epochs)).backward()
            optimizer.step()
        schedule.step()
    show_errors(tree, test_images, test_labels_N)


if __name__ == "__main__":
    main()
