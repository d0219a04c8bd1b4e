"""A Joint in the Trainer of transformers: three tiny vision transformers, with random weights, teach each other.

Run it: pip install transformers accelerate, then python examples/trainers/hf_image_classification.py (digits, about ten
seconds on two CPU cores).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import EvalPrediction, Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import codistill


def load() -> tuple[list[dict[str, torch.Tensor | int]], list[dict[str, torch.Tensor | int]]]:
    """Scans of 8 × 8 as the Trainer takes them: 1437 to train on, 360 to test on."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).tolist()
    items = [{"pixel_values": images[i], "labels": int(digits[i])} for i in order]
    return items[360:], items[:360]


def net() -> nn.Module:
    """A network of transformers, as it is; from_pretrained(...) begins with trained weights."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=2, num_channels=1, num_labels=10))


def score(scored: EvalPrediction) -> dict[str, float]:
    """Accuracy of the leader and of each student; the predictions are the fields of `JointOutput` after the loss."""
    logits, logits_BPC, *_ = scored.predictions
    each = (np.asarray(logits_BPC).argmax(-1) == scored.label_ids[:, None]).mean(0)
    leader = float((np.asarray(logits).argmax(-1) == scored.label_ids).mean())
    return {"leader": leader, **{f"student{peer}": float(value) for peer, value in enumerate(each)}}


def main(epochs: int = 4, items: int | None = None, out: Path = Path("student"), batch: int = 32) -> dict[str, float]:
    """Train on `items` images (all if None), print the students' accuracies, and save the leader."""
    torch.manual_seed(0)
    train, test = load()
    train = train[:items]

    group = codistill.peers.NetworkGroup([net() for _ in range(4)], output="logits", example=torch.zeros(2, 1, 8, 8))
    method = codistill.methods.build("okddip", group)
    # Batches, not updates: gradient_accumulation_steps makes no difference.
    joint = codistill.Joint(group, method, epochs, steps_per_epoch=-(-len(train) // batch))
    settings = TrainingArguments(
        output_dir=str(out) + "-trainer", num_train_epochs=epochs, per_device_train_batch_size=batch,
        learning_rate=4e-3, warmup_steps=20, eval_strategy="epoch", save_strategy="epoch", save_total_limit=1,
        report_to="none", disable_tqdm=True, use_cpu=True, seed=0, logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(joint, settings, train_dataset=train, eval_dataset=test, compute_metrics=score)
    trainer.train()
    joint.check(trainer.optimizer)

    scores = trainer.evaluate()
    print("  ".join(f"{name}: {value:.3f}" for name, value in scores.items() if "student" in name or "leader" in name))
    student = joint.student("leader")
    student.save_pretrained(out)
    print(f"saved the leader to {out}: ViTForImageClassification.from_pretrained({str(out)!r})")
    return scores


if __name__ == "__main__":
    main()
