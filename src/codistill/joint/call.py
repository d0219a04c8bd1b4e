"""Reads the arguments with which a trainer calls a module: inputs and labels by their names, and what is of no use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.joint.once import Once

__all__ = ["IGNORED_LABEL", "Call", "Read"]

IGNORED_LABEL = -100
"""Label of tokens that count for nothing, by the custom of language models."""

INPUTS, LABELS = ("inputs", "pixel_values", "input_ids"), ("labels",)
"""Names under which inputs and labels are looked for, besides those that the user gives."""


class Read(NamedTuple):
    """One call: inputs [B, ...] (one tensor or one per student), labels and weights in the logits' positions."""

    views: Tensor | Sequence[Tensor]
    labels: Tensor | None
    weights: Tensor | None


class Call:
    """How a module is called.

    Args:
        inputs: a further name for the inputs.
        labels: a further name for the labels.
        shift: whether the label of a position is that of the next one, as causal language models have it.
        ignore_index: what stands at the last position then.
    """

    def __init__(self, inputs: str | None, labels: str | None, shift: bool, ignore_index: int | None) -> None:
        self.inputs = (*INPUTS, inputs) if inputs else INPUTS
        self.labels = (*LABELS, labels) if labels else LABELS
        self.shift, self.ignore_index, self._once = shift, ignore_index, Once()

    def read(self, given: Mapping[str, Any]) -> Read:
        """Return what the arguments mean; warn once of each that is ignored.

        Raises:
            UserError: no inputs, inputs or labels under two names, or labels that cannot be shifted.
        """
        there = {name: value for name, value in given.items() if value is not None}
        inputs, labels = _only(there, self.inputs, "inputs"), _only(there, self.labels, "labels")
        if inputs is None:
            raise UserError(
                f"the Joint got no inputs{' but ' if there else ''}{', '.join(there)}: give them first, by one of the "
                f'names {", ".join(self.inputs)}, or by a name of yours, Joint(..., input_name="x").'
            )
        for name in there.keys() - {inputs, labels, "sample_weights"}:
            self._once(
                name,
                f"the Joint ignores {name}: its networks get the inputs alone; where they need more, such as a mask, "
                "give networks that make it from the inputs",
            )
        found = Read(there[inputs], there.get(labels or ""), there.get("sample_weights"))
        return self._shifted(found) if self.shift else found

    def _shifted(self, found: Read) -> Read:
        labels, weights = found.labels, found.weights
        labels = None if labels is None else _next_of(labels, self.ignore_index, "labels")
        weights = _next_of(weights, 0, "sample_weights") if weights is not None and weights.ndim > 1 else weights
        return found._replace(labels=labels, weights=weights)


def _only(there: Mapping[str, Any], names: Sequence[str], what: str) -> str | None:
    found = [name for name in names if name in there]
    if len(found) > 1:
        raise UserError(f"the Joint got {what} as {' and '.join(found)}: give them by one name.")
    return found[0] if found else None


def _next_of(values: Tensor, last: int | None, what: str) -> Tensor:
    """[B, T, ...] moved one position to the front, with `last` at the end."""
    if values.ndim < 2 or last is None:
        raise UserError(f"shift_labels with {what} of shape {list(values.shape)}: give one for each token, [B, T].")
    end = torch.full_like(values[:, :1], last)
    return torch.cat([values[:, 1:], end], dim=1)
