"""Deep mutual learning (DML) on one screen, in plain PyTorch.

Source: Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018.

m networks train side by side. Each learns from the labels and from the predictions of all the others:

    L_i = CE(z_i, y) + T² / (m - 1) · Σ_{j≠i} KL(p_j ‖ p_i),    p = softmax(z / T),    T = 1 in the paper

A prediction that serves as a target is detached: network i is not to move network j. KL is summed over the classes and
averaged over the batch. Here all networks are updated from one prediction. In the paper's algorithm they take turns:
after the update of one network every network predicts again.

Letters: P networks, B images, C classes, N images of a data set. Run it: python examples/dml.py (digits).
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


def dml_loss(logits_PBC: Tensor, labels_B: Tensor, T: float = 1.0) -> Tensor:
    """Σ_i L_i, a scalar.

    Args:
        logits_PBC: the networks' outputs for the same images.
        labels_B: class indices.
        T: temperature.
    """
    P = len(logits_PBC)
    loss = logits_PBC.new_zeros(())
    for i in range(P):
        loss = loss + functional.cross_entropy(logits_PBC[i], labels_B)
        logp_BC = functional.log_softmax(logits_PBC[i] / T, dim=-1)
        for j in range(P):
            if j != i:
                target_BC = functional.softmax(logits_PBC[j] / T, dim=-1).detach()
                # "batchmean" sums over the classes; "mean" would also divide by their number.
                loss = loss + T**2 / (P - 1) * functional.kl_div(logp_BC, target_BC, reduction="batchmean")
    return loss


class Net(nn.Module):
    """A small convolutional network; any other, also a different one for each peer, will do."""

    def __init__(self, width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] -> logits [B, C]."""
        return self.layers(images)


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels: 1437 and 360 scans of 8 × 8."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(digits, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:360], order[360:]
    return images[train], labels[train], images[test], labels[test]


@torch.no_grad()
def show_errors(networks: nn.ModuleList, images: Tensor, labels_N: Tensor) -> None:
    """Print the error of every network and of the mean of their probabilities, in percent."""
    networks.eval()
    prob_PNC = torch.stack([network(images) for network in networks]).softmax(-1)
    error_P = 100 * (prob_PNC.argmax(-1) != labels_N).float().mean(-1)
    print("students: " + "  ".join(f"{error:.2f} %" for error in error_P))
    print(f"ensemble: {100 * (prob_PNC.mean(0).argmax(-1) != labels_N).float().mean():.2f} %")


def main(epochs: int = 12) -> None:
    """Train three networks and print their errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()
    # Drawn one after the other from one stream, so they differ: equal networks would have nothing to teach each other.
    networks = nn.ModuleList(Net() for _ in range(3))
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        networks.train()
        for index_B in torch.randperm(len(train_labels_N)).split(64):
            logits_PBC = torch.stack([network(train_images[index_B]) for network in networks])
            optimizer.zero_grad()
            dml_loss(logits_PBC, train_labels_N[index_B]).backward()
            optimizer.step()
        schedule.step()
    show_errors(networks, test_images, test_labels_N)


if __name__ == "__main__":
    main()
