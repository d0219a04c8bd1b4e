"""Refuses values of options and batches that make no sense: value, rule, remedy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import read_freely, wide

__all__ = ["check_choice", "check_sample_weights", "check_temperature", "check_values", "check_weight"]


def check_temperature(temperature: float) -> float:
    """Return `temperature`; UserError where it is not positive and finite."""
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature {temperature}: it must be greater than 0 and finite; the papers use 1 to 4.")
    return float(temperature)


def check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """UserError where the option's value is none of `choices`."""
    if value not in choices:
        raise UserError(f"{option} {value!r}: choose one of {', '.join(map(repr, choices))}.")


def check_weight(option: str, value: float) -> float:
    """Return the weight of a term; UserError where it is negative, infinite or not a number."""
    if not 0 <= value < math.inf:
        raise UserError(f"{option} {value}: it must be 0 or more, and finite.")
    return float(value)


def check_sample_weights(weights: Tensor, logits: Tensor) -> None:
    """UserError where the weights do not fit logits [P, B, ..., C], or are negative, infinite or NaN."""
    batch = logits.shape[1:-1]
    if weights.device != logits.device:
        raise UserError(f"sample weights are on {weights.device}, logits on {logits.device}: move both to one device.")
    if weights.ndim > len(batch) or weights.shape != batch[: weights.ndim]:
        raise UserError(f"sample weights have shape {list(weights.shape)}: give [{batch[0]}] or {list(batch)}.")
    if read_freely(weights) and not bool(((weights >= 0) & (weights < math.inf)).all()):
        raise UserError(
            "sample weights that are below 0, infinite or NaN: a weight says how much a sample counts; give 0 or more."
        )


def check_values(logits: Tensor, labels_rows: Tensor, soft: bool) -> None:
    """UserError where logits [P, ..., C] are not finite, or labels are no class or no distribution."""
    # The sum is finite unless an entry is not (or the entries overflow it, which the second look tells apart).
    if not torch.isfinite(logits.detach().sum()):
        for peer, logits_p in enumerate(logits.detach()):
            if not torch.isfinite(logits_p).all():
                raise UserError(
                    f"logits of peer {peer} hold NaN or infinity: the training of this peer has diverged; "
                    "lower its learning rate, or look at its input."
                )
    C = logits.shape[-1]
    if soft:
        # Labels in half precision are rounded to three digits (bfloat16: two), and their sum with them.
        near = 1e-3 if labels_rows.dtype in (torch.float32, torch.float64) else 2e-2
        sums_N = wide(labels_rows).sum(-1)
        if labels_rows.numel() and not (bool((labels_rows >= 0).all()) and bool(((sums_N - 1).abs() < near).all())):
            raise UserError(
                "labels as probabilities that are negative or do not sum to one: every row must be a distribution over "
                "the classes."
            )
    elif labels_rows.numel():
        low, high = (int(v) for v in torch.aminmax(labels_rows))
        if low < 0 or high >= C:
            raise UserError(
                f"label {low if low < 0 else high} with {C} classes: labels must be 0 to {C - 1}; "
                "pass ignore_index for labels to be left out."
            )
