"""How the peers' logits become a target: where they are averaged, what lets gradient through, and the presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from codistill.errors import UserError
from codistill.losses import softmax
from codistill.methods.checks import check_choice, check_weight

__all__ = ["SPACES", "PeerTarget", "use_preset"]

SPACES = ("probabilities", "logits")
"""Where predictions are averaged: after the softmax, or before it."""


@dataclass(frozen=True)
class PeerTarget:
    """A target that is an average of peers' predictions.

    Attributes:
        temperature: T of the softened predictions.
        aggregate: "probabilities": average of softmax(z / T); "logits": softmax(average of z / T).
        detached: whether the predictions in the target are cut off from their networks.
        epsilon: added to every class of the target.
    """

    temperature: float
    aggregate: str = "probabilities"
    detached: bool = True
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        check_choice("aggregate", self.aggregate, SPACES)
        check_weight("target_epsilon", self.epsilon)

    def of(self, logits_PNC: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the target's probabilities for what `average` makes of [P, N, C], in its shape.

        Args:
            logits_PNC: the peers' logits z.
            average: a linear map over the peers, such as `mean_of_others`.
        """
        source = logits_PNC.detach() if self.detached else logits_PNC
        if self.aggregate == "logits":
            return softmax(average(source), self.temperature) + self.epsilon
        return average(softmax(source, self.temperature)) + self.epsilon


def use_preset(
    preset: str | None, given: Mapping[str, Any], usual: Mapping[str, Any], released: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options to use: `given`, or with preset="released" what the authors of OKDDip released.

    Args:
        preset: None or "released".
        given: the options as the user gave them; None where they were left out.
        usual: their defaults.
        released: their values in the released code.

    Raises:
        UserError: an unknown preset, or another value than the preset's for an option that it sets.
    """
    check_choice("preset", preset, (None, "released"))
    known = usual if preset is None else released
    for name, value in given.items():
        if preset is not None and value not in (None, released[name]):
            raise UserError(
                f"{name} {value!r} with preset 'released', which sets it to {released[name]!r}: leave one of them out."
            )
    return {name: known[name] if value is None else value for name, value in given.items()}
