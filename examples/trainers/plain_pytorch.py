"""A Joint in a plain PyTorch loop with AdamW, bfloat16 autocast, gradient accumulation and gradient clipping.

Run it: python examples/trainers/plain_pytorch.py (scikit-learn's digits, a few seconds on a CPU).
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import codistill

ACCUMULATE = 2


def net(width: int) -> nn.Module:
    """Any network with logits [B, C]."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


def load() -> tuple[TensorDataset, TensorDataset]:
    """Scans of 8 × 8: 1437 to train on, 360 to test on."""
    pixels, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)[order]
    labels = torch.tensor(digits)[order]
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


@torch.no_grad()
def accuracy_of_students(joint: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> Tensor:
    """Percent of the images that each student gets right, [P]."""
    joint.eval()
    right = [(joint(images).logits_BPC.argmax(-1) == labels[:, None]).float() for images, labels in loader]
    joint.train()
    return 100 * torch.cat(right).mean(0)


def main(epochs: int = 8, out: Path = Path("student.pt")) -> Tensor:
    """Train four networks, print their accuracies, and save the leader."""
    torch.manual_seed(0)
    train_set, test_set = load()
    train, test = DataLoader(train_set, 64, shuffle=True), DataLoader(test_set, 64)

    group = codistill.peers.NetworkGroup([net(8), net(8), net(12), net(12)])
    method = codistill.methods.build("okddip", group)
    joint = codistill.Joint(group, method, epochs, steps_per_epoch=len(train))

    optimizer = torch.optim.AdamW(joint.parameters(), lr=3e-3, weight_decay=0.01)
    joint.check(optimizer)  # every parameter that is trained is there, okddip's attention among them
    for _ in range(epochs):
        for number, (images, labels) in enumerate(train):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = joint(images, labels).loss
            (loss / ACCUMULATE).backward()
            if (number + 1) % ACCUMULATE == 0 or number + 1 == len(train):
                nn.utils.clip_grad_norm_(joint.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    accuracy_P = accuracy_of_students(joint, test)
    print("students: " + "  ".join(f"{value:.1f} %" for value in accuracy_P))
    torch.save(joint.student("leader").state_dict(), out)  # a plain network: nothing of codistill is needed to load it
    print(f"saved the leader to {out}")
    return accuracy_P


if __name__ == "__main__":
    main()
