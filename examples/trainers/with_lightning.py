"""A Joint in a LightningModule: Lightning runs the loop, and keeps the position in the run in its checkpoints.

Run it: pip install lightning, then python examples/trainers/with_lightning.py (digits, a few seconds on a CPU).
"""

from __future__ import annotations

import logging
from pathlib import Path

import lightning
import torch
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
    """Scans of 8 × 8: 1437 to train on, 360 to validate on."""
    pixels, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)[order]
    labels = torch.tensor(digits)[order]
    return TensorDataset(images[360:], labels[360:]), TensorDataset(images[:360], labels[:360])


class Codistilled(lightning.LightningModule):
    """What Lightning needs around a Joint."""

    def __init__(self, joint: codistill.Joint) -> None:
        super().__init__()
        self.joint = joint

    def training_step(self, batch: list[Tensor], _: int) -> Tensor | None:
        """The loss of the method, with its parts logged."""
        out = self.joint(*batch)
        self.log_dict(dict(out.parts))
        return out.loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """The accuracy of every student."""
        images, labels = batch
        out = self.joint(images, labels)
        right_P = 100 * (out.logits_BPC.argmax(-1) == labels[:, None]).float().mean(0)
        self.log_dict({"val_loss": out.loss, **{f"student{peer}": value for peer, value in enumerate(right_P)}})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimizer for everything that is trained."""
        return torch.optim.AdamW(self.joint.parameters(), lr=3e-3)


def main(
    epochs: int = 6, batches: int | None = None, out: Path = Path("student.pt"), resume: str | None = None
) -> dict[str, float]:
    """Train four networks, print the students' accuracies, and save the leader; `batches` ends each epoch early."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(0, verbose=False)
    train_set, valid_set = load()
    train, valid = DataLoader(train_set, 64, shuffle=True), DataLoader(valid_set, 64)

    group = codistill.peers.NetworkGroup([net(8), net(8), net(12), net(12)])
    method = codistill.methods.build("okddip", group)
    joint = codistill.Joint(group, method, epochs, steps_per_epoch=batches or len(train))
    trainer = lightning.Trainer(
        max_epochs=epochs, limit_train_batches=batches, accelerator="cpu", gradient_clip_val=1.0, logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=out.parent,
    )  # fmt: skip
    trainer.fit(Codistilled(joint), train, valid, ckpt_path=resume)

    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    print("  ".join(f"{name}: {value:.1f} %" for name, value in scores.items() if name.startswith("student")))
    torch.save(joint.student("leader").state_dict(), out)
    print(f"saved the leader to {out}")
    return scores


if __name__ == "__main__":
    main()
