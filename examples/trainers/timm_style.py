"""A Joint in the manner of timm's training script: its optimizer, schedule, Mixup, gradient scaler and networks.

Run it: pip install timm, then python examples/trainers/timm_style.py (digits, about ten seconds on two CPU cores).
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import NativeScaler, dispatch_clip_grad
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import codistill


def load() -> tuple[TensorDataset, TensorDataset]:
    """Scans, enlarged to 16 × 16: 1437 to train on, 360 to test on."""
    pixels, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)[order].repeat_interleave(2, 2)
    images, labels = images.repeat_interleave(2, 3), torch.tensor(digits)[order]
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


def net() -> torch.nn.Module:
    """A small network of timm, with random weights; pretrained=True begins with trained ones."""
    sizes = {"channels": (8, 16, 24, 32), "stem_width": 8, "stem_type": ""}
    return timm.create_model("resnet10t", num_classes=10, in_chans=1, **sizes)


@torch.no_grad()
def validate(joint: codistill.Joint, loader: DataLoader[tuple[Tensor, ...]]) -> Tensor:
    """Percent of the images that each student gets right, [P]."""
    joint.eval()
    right = [(joint(images).logits_BPC.argmax(-1) == labels[:, None]).float() for images, labels in loader]
    joint.train()
    return 100 * torch.cat(right).mean(0)


def main(epochs: int = 4, steps: int | None = None, out: Path = Path("student.pt")) -> Tensor:
    """Train two networks by deep mutual learning; `steps` ends an epoch early. Return their accuracies."""
    torch.manual_seed(0)
    train_set, test_set = load()
    # Mixup pairs the images of a batch, whose number must be even.
    train, test = DataLoader(train_set, 64, shuffle=True, drop_last=True), DataLoader(test_set, 64)
    steps = min(steps or len(train), len(train))

    group = codistill.peers.NetworkGroup([net(), net()])
    # Mixed labels are probabilities. kdcl_linear, kdcl_minlogit and switokd need the one true class: leave Mixup out.
    mixup = Mixup(mixup_alpha=0.1, cutmix_alpha=0.0, label_smoothing=0.1, num_classes=10)
    joint = codistill.Joint(group, codistill.methods.build("dml", group), epochs, steps_per_epoch=steps)

    optimizer = create_optimizer_v2(joint, opt="adamw", lr=4e-3, weight_decay=0.02)
    joint.check(optimizer)
    updates = {"step_on_epochs": False, "updates_per_epoch": steps}
    schedule, _ = create_scheduler_v2(optimizer, "cosine", epochs, warmup_epochs=1, **updates)
    scaler = NativeScaler() if torch.cuda.is_available() else None

    for epoch in range(epochs):
        for number, (images, labels) in zip(range(steps), train, strict=False):
            images, labels = mixup(images, labels) if mixup else (images, labels)
            loss = joint(images, labels).loss
            optimizer.zero_grad()
            if scaler is not None:
                scaler(loss, optimizer, clip_grad=1.0, parameters=joint.parameters())
            else:
                loss.backward()
                dispatch_clip_grad(joint.parameters(), 1.0)
                optimizer.step()
            schedule.step_update(epoch * steps + number + 1)
        accuracy_P = validate(joint, test)
        each = "  ".join(f"{value:.1f} %" for value in accuracy_P)
        print(f"epoch {epoch + 1}: loss {float(loss.detach()):.3f}  students {each}")

    best = int(accuracy_P.argmax())  # dml names no leader; choose by a validation set of yours
    torch.save(joint.student(best).state_dict(), out)
    print(f"saved student {best} to {out}: timm.create_model(...).load_state_dict(torch.load({str(out)!r}))")
    return accuracy_P


if __name__ == "__main__":
    main()
