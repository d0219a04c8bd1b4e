"""A Joint in DistributedDataParallel, on processes of one machine or many.

Wrap the Joint, not its networks: then the gradients of all students and of the method are synchronised together. Each
process forms its own targets from its own part of the batch, and its own batch norm statistics.

Run it: torchrun --nproc-per-node 2 examples/trainers/two_processes.py (digits, ten seconds on two CPU cores).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import codistill


def net(width: int) -> nn.Module:
    """Any network with logits [B, C]."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2),
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
def accuracy_of_students(joint: codistill.Joint, test: TensorDataset) -> Tensor:
    """Percent of the images that each student gets right, [P]."""
    images, labels = test.tensors
    return 100 * (joint.eval()(images).logits_BPC.argmax(-1) == labels[:, None]).float().mean(0)


def main(epochs: int = 6, out: Path = Path("student.pt")) -> Tensor:
    """Train in this process, one of several; the first prints the accuracies and saves the leader."""
    cuda = torch.cuda.is_available()
    distributed.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    torch.manual_seed(0)
    train_set, test_set = load()
    sampler = DistributedSampler(train_set)
    train = DataLoader(train_set, 64 // distributed.get_world_size(), sampler=sampler)

    group = codistill.peers.NetworkGroup([net(8), net(8), net(12), net(12)])
    method = codistill.methods.build("okddip", group)
    # A process sees its own part of an epoch: len(loader) steps.
    joint = codistill.Joint(group, method, epochs, steps_per_epoch=len(train)).to(device)
    model = DistributedDataParallel(joint, device_ids=[device] if cuda else None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    joint.check(optimizer)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for images, labels in train:
            optimizer.zero_grad()
            model(images.to(device), labels.to(device)).loss.backward()
            optimizer.step()
    accuracy_P = accuracy_of_students(joint.cpu(), test_set)
    if distributed.get_rank() == 0:
        print("students: " + "  ".join(f"{value:.1f} %" for value in accuracy_P))
        torch.save(joint.student("leader").state_dict(), out)
        print(f"saved the leader to {out}")
    distributed.destroy_process_group()
    return accuracy_P


if __name__ == "__main__":
    main()
