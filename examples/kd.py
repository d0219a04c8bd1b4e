"""Knowledge distillation from frozen teachers (KD) on one screen, in plain PyTorch.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.

Teachers are trained first and frozen. Students then learn from the labels and from the teachers' softened predictions:

    L = Σ_i [ CE(z_i, y) + λ · T² · KL(t ‖ softmax(z_i / T)) ],    t = mean over the teachers of softmax(z_teacher / T)

The teachers get no gradient. T² keeps the soft term's gradient at the size of the hard one's, whatever T. This is the
two-stage method that online distillation sets out to replace: compare examples/dml.py.

Letters: P students, K teachers, B images, C classes, N images of a data set. Run it: python examples/kd.py (digits).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


def kd_loss(
    logits_PBC: Tensor, teacher_logits_KBC: Tensor, labels_B: Tensor, T: float = 4.0, weight: float = 1.0
) -> Tensor:
    """L, a scalar.

    Args:
        logits_PBC: the students' outputs.
        teacher_logits_KBC: the frozen teachers' outputs for the same images.
        labels_B: class indices.
        T: temperature.
        weight: λ.
    """
    target_BC = functional.softmax(teacher_logits_KBC / T, dim=-1).mean(0).detach()
    loss = logits_PBC.new_zeros(())
    for logits_BC in logits_PBC:
        logp_BC = functional.log_softmax(logits_BC / T, dim=-1)
        loss = loss + functional.cross_entropy(logits_BC, labels_B)
        loss = loss + weight * T**2 * functional.kl_div(logp_BC, target_BC, reduction="batchmean")
    return loss


class Net(nn.Module):
    """A small convolutional network; `width` differs between teachers and students."""

    def __init__(self, width: int, num_classes: int = 10) -> None:
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


def train(
    networks: nn.ModuleList,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    labels_N: Tensor,
    epochs: int,
) -> None:
    """Minimise loss(logits [P, B, C], the batch's images, its labels) by SGD."""
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    networks.train()
    for _ in range(epochs):
        for index_B in torch.randperm(len(labels_N)).split(64):
            logits_PBC = torch.stack([network(images[index_B]) for network in networks])
            optimizer.zero_grad()
            loss(logits_PBC, images[index_B], labels_N[index_B]).backward()
            optimizer.step()
        schedule.step()


@torch.no_grad()
def show_errors(who: str, networks: nn.ModuleList, images: Tensor, labels_N: Tensor) -> None:
    """Print the error of every network and of the mean of their probabilities, in percent."""
    networks.eval()
    prob_PNC = torch.stack([network(images) for network in networks]).softmax(-1)
    error_P = 100 * (prob_PNC.argmax(-1) != labels_N).float().mean(-1)
    print(f"{who}: " + "  ".join(f"{error:.2f} %" for error in error_P))
    print(f"ensemble of {who}: {100 * (prob_PNC.mean(0).argmax(-1) != labels_N).float().mean():.2f} %")


def main(epochs: int = 8) -> None:
    """Train two teachers, freeze them, train two students of half the width, and print all errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()
    teachers = nn.ModuleList(Net(width=16) for _ in range(2))

    def labels_only(logits_PBC: Tensor, images: Tensor, labels_B: Tensor) -> Tensor:
        return torch.stack([functional.cross_entropy(logits_BC, labels_B) for logits_BC in logits_PBC]).sum()

    train(teachers, labels_only, train_images, train_labels_N, epochs)
    # Evaluation mode belongs to freezing: in training mode batch norm would still answer with the batch's statistics.
    teachers.eval().requires_grad_(False)
    students = nn.ModuleList(Net(width=8) for _ in range(2))

    def taught(logits_PBC: Tensor, images: Tensor, labels_B: Tensor) -> Tensor:
        return kd_loss(logits_PBC, torch.stack([teacher(images) for teacher in teachers]), labels_B)

    train(students, taught, train_images, train_labels_N, epochs)
    show_errors("teachers", teachers, test_images, test_labels_N)
    show_errors("students", students, test_images, test_labels_N)


if __name__ == "__main__":
    main()
