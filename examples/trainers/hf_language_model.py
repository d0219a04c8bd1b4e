"""A Joint in the Trainer of transformers: three tiny causal language models that predict the next byte.

`shift_labels=True`: the labels are the inputs themselves, each position learns the next one, and -100 counts for
nothing, as in the models of transformers.

Run it: pip install transformers accelerate, then python examples/trainers/hf_language_model.py (about half a minute on
two CPU cores; the text is the help that Python itself ships with).
"""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import EvalPrediction, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import codistill

LENGTH = 64


def load() -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Pieces of Python's help, as a data collator for language models would make them."""
    data = torch.tensor(list("\n".join(pydoc_data.topics.topics.values()).encode()), dtype=torch.int64)
    pieces = data[: len(data) // LENGTH * LENGTH].view(-1, LENGTH)
    items = [{"input_ids": piece, "labels": piece} for piece in pieces]
    return items[100:], items[:100]


def net() -> nn.Module:
    """A network of transformers, as it is, with the 256 bytes as its vocabulary."""
    sizes = {"n_layer": 2, "n_embd": 48, "n_head": 4, "vocab_size": 256, "n_positions": LENGTH}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, use_cache=False))


def predictions(outputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """What the Trainer keeps of each batch: bytes [B, P, T] instead of logits, which would fill the memory."""
    _, logits_BPTC, *_ = outputs
    return logits_BPTC.argmax(-1)


def score(scored: EvalPrediction) -> dict[str, float]:
    """The share of the bytes that each student predicts."""
    right = scored.predictions[:, :, :-1] == scored.label_ids[:, None, 1:]
    return {f"student{peer}": float(share) for peer, share in enumerate(right.mean((0, 2)))}


def main(epochs: int = 1, steps: int = 150, out: Path = Path("student"), batch: int = 16) -> dict[str, float]:
    """Train for `steps` batches, print how often each student is right, and save the best one."""
    torch.manual_seed(0)
    train, test = load()

    example = torch.zeros(2, LENGTH, dtype=torch.long)
    group = codistill.peers.NetworkGroup([net() for _ in range(3)], output="logits", example=example)
    method = codistill.methods.build("dml", group)
    joint = codistill.Joint(group, method, epochs, steps_per_epoch=steps, shift_labels=True)
    settings = TrainingArguments(
        output_dir=str(out) + "-trainer", max_steps=steps * epochs, per_device_train_batch_size=batch,
        learning_rate=3e-3, report_to="none", disable_tqdm=True, use_cpu=True, seed=0, save_strategy="no",
        logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        joint, settings, train_dataset=train, eval_dataset=test, compute_metrics=score,
        preprocess_logits_for_metrics=predictions,
    )  # fmt: skip
    trainer.train()

    scores = trainer.evaluate()
    shares = [scores[f"eval_student{peer}"] for peer in range(3)]
    print("  ".join(f"student {peer}: {100 * share:.1f} %" for peer, share in enumerate(shares)))
    best = shares.index(max(shares))  # dml names no leader
    joint.student(best).save_pretrained(out)  # the plain GPT-2 again, its head tied to its embedding
    print(f"saved student {best} to {out}: GPT2LMHeadModel.from_pretrained({str(out)!r})")
    return scores


if __name__ == "__main__":
    main()
