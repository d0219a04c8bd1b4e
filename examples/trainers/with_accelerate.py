"""A Joint with Accelerate: the same loop on a CPU, a GPU, or many of them (accelerate launch).

Run it: pip install accelerate, then python examples/trainers/with_accelerate.py (digits, a few seconds on a CPU), or
accelerate launch --cpu --num_processes 2 examples/trainers/with_accelerate.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import codistill


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


def main(epochs: int = 6, steps: int | None = None, out: Path = Path("student.pt")) -> Tensor:
    """Train four networks, print the students' accuracies, and save the leader; `steps` ends each epoch early."""
    set_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    train_set, test_set = load()

    group = codistill.peers.NetworkGroup([net(8), net(8), net(12), net(12)])
    method = codistill.methods.build("okddip", group)
    joint = codistill.Joint(group, method, epochs)
    optimizer = torch.optim.AdamW(joint.parameters(), lr=3e-3)
    loaders = DataLoader(train_set, 64, shuffle=True), DataLoader(test_set, 64)
    model, optimizer, train, test = accelerator.prepare(joint, optimizer, *loaders)
    joint.check(optimizer)
    steps = min(steps or len(train), len(train))

    for epoch in range(epochs):
        # The other way to say how far the training is. It suits loops in which the length of an epoch is not known.
        joint.set_epoch(epoch)
        model.train()
        for _, (images, labels) in zip(range(steps), train, strict=False):
            with accelerator.accumulate(model):
                accelerator.backward(model(images, labels).loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

    model.eval()
    right: list[Tensor] = []
    for images, labels in test:
        with torch.no_grad():
            logits_BPC = model(images).logits_BPC
        # The images come first in all logits, so that the batches of several processes can be joined.
        logits_BPC, labels = accelerator.gather_for_metrics((logits_BPC, labels))
        right.append((logits_BPC.argmax(-1) == labels[:, None]).float())
    accuracy_P = 100 * torch.cat(right).mean(0)
    accelerator.print("students: " + "  ".join(f"{value:.1f} %" for value in accuracy_P))
    # joint is the module inside `model`, whatever Accelerate has wrapped around it.
    accelerator.save(joint.student("leader").state_dict(), out)
    accelerator.print(f"saved the leader to {out}")
    return accuracy_P


if __name__ == "__main__":
    main()
