"""ONE, the on-the-fly native ensemble, on one screen, in plain PyTorch.

Source: Lan, Zhu, Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018.

m branches stand on one trunk. A gate weighs them into an ensemble for every image, and it teaches the branches:

    g = softmax(ReLU(BN(W · h))),  h the trunk's output, averaged over its positions
    z_e = Σ_i g_i z_i
    L = Σ_i CE(z_i, y) + CE(z_e, y) + w(e) · T² · Σ_i KL(q'_e ‖ q'_i),    q' = softmax(z / T)

q'_e is detached where it is a target; CE(z_e, y) trains the gate, and reaches all branches. w(e) ramps the soft term up
while predictions are still poor.

Letters: P branches, B images, C classes, D channels of the trunk, N images of a data set. Run: python examples/one.py
"""

from __future__ import annotations

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


class Gate(nn.Module):
    """g = softmax(ReLU(BN(W · h))), [B, D] -> [B, P]."""

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, branches, bias=False)
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, trunk_BD: Tensor) -> Tensor:
        """The weight of every branch for every image."""
        return torch.relu(self.norm(self.linear(trunk_BD))).softmax(-1)


def one_loss(
    logits_PBC: Tensor, trunk_BD: Tensor, labels_B: Tensor, gate: Gate, T: float = 3.0, ramp: float = 1.0
) -> Tensor:
    """L, a scalar.

    Args:
        logits_PBC: the branches' outputs.
        trunk_BD: the trunk's output, averaged over its positions.
        labels_B: class indices.
        gate: trained by this loss: its parameters belong in the optimizer.
        T: temperature.
        ramp: w(e).
    """
    ensemble_BC = torch.einsum("bp,pbc->bc", gate(trunk_BD), logits_PBC)
    target_BC = functional.softmax(ensemble_BC / T, dim=-1).detach()
    loss = functional.cross_entropy(ensemble_BC, labels_B)
    for logits_BC in logits_PBC:
        logp_BC = functional.log_softmax(logits_BC / T, dim=-1)
        loss = loss + functional.cross_entropy(logits_BC, labels_B)
        loss = loss + ramp * T**2 * functional.kl_div(logp_BC, target_BC, reduction="batchmean")
    return loss


def ramp_up(epoch: float, epochs: float, share: float = 80 / 300) -> float:
    """w(e) = exp(-5 (1 - min(e / r, 1))²), r = `share` of the run (80 of 300 epochs in OKDDip's code)."""
    return math.exp(-5 * (1 - min(epoch / epochs / share, 1)) ** 2)


class Branches(nn.Module):
    """A trunk and P branches; a deployed student is the trunk with one of them."""

    def __init__(self, branches: int = 3, width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*conv(1, width), *conv(width, 2 * width, stride=2))
        self.branches = nn.ModuleList(
            nn.Sequential(
                *conv(2 * width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes)
            )
            for _ in range(branches)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, H, W] -> logits [P, B, C] and the trunk's averaged output [B, D]."""
        shared = self.trunk(images)
        return torch.stack([branch(shared) for branch in self.branches]), shared.mean((2, 3))


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
def show_errors(network: Branches, gate: Gate, images: Tensor, labels_N: Tensor) -> None:
    """Print the error of every branch, of the gated ensemble and of the plain mean of probabilities, in percent."""
    network.eval()
    gate.eval()
    logits_PNC, trunk_ND = network(images)
    error_P = 100 * (logits_PNC.argmax(-1) != labels_N).float().mean(-1)
    gated_NC = torch.einsum("np,pnc->nc", gate(trunk_ND), logits_PNC)
    mean_NC = logits_PNC.softmax(-1).mean(0)
    print("students: " + "  ".join(f"{error:.2f} %" for error in error_P))
    print(f"gated ensemble: {100 * (gated_NC.argmax(-1) != labels_N).float().mean():.2f} %")
    print(f"ensemble: {100 * (mean_NC.argmax(-1) != labels_N).float().mean():.2f} %")


def main(epochs: int = 10) -> None:
    """Train three branches with their gate and print their errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()
    network = Branches(branches=3)
    gate = Gate(width=32, branches=3)
    parameters = [*network.parameters(), *gate.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        network.train()
        gate.train()
        for index_B in torch.randperm(len(train_labels_N)).split(64):
            optimizer.zero_grad()
            logits_PBC, trunk_BD = network(train_images[index_B])
            one_loss(logits_PBC, trunk_BD, train_labels_N[index_B], gate, ramp=ramp_up(epoch, epochs)).backward()
            optimizer.step()
        schedule.step()
    show_errors(network, gate, test_images, test_labels_N)


if __name__ == "__main__":
    main()
