"""The logits in what a network returns: which entry of it they are, and where its classes lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from codistill.errors import UserError

__all__ = ["LogitsReader", "Output"]

Output = str | Callable[[Any], Tensor]
"""Key or attribute of what a network returns ("out", "logits"), or a function of it."""


@dataclass(frozen=True)
class LogitsReader:
    """Makes logits [B, ..., C] of what a network returns.

    Attributes:
        output: the entry that holds the logits, by key or attribute, or a function; None: the network returns them.
        class_axis: axis of the classes in them, 1 for dense predictions [B, C, H, W], -1 for tokens [B, T, C].
        num_classes: C once it is known, to hold every output to.
    """

    output: Output | None = None
    class_axis: int = -1
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.class_axis not in (1, -1):
            raise UserError(f"class_axis {self.class_axis}: classes lie on axis 1 ([B, C, H, W]) or -1 ([B, T, C]).")

    def __call__(self, returned: object, inputs: Tensor) -> Tensor:
        """Return the logits, classes last.

        Raises:
            UserError: there is no such entry, it is no tensor, or its batch or number of classes do not fit.
        """
        logits = self._entry(returned)
        B, C = len(inputs), self.num_classes
        if not isinstance(logits, Tensor):
            raise UserError(
                f"a network returned {type(logits).__name__}: a peer must return one tensor of logits [B, C]; name "
                f"the entry that holds them, {_naming(logits)}, switch auxiliary outputs off, or wrap the network."
            )
        if logits.ndim < 2 or len(logits) != B or (C is not None and logits.shape[self.class_axis] != C):
            raise self._refusal(logits, B)
        if logits.ndim > 2 and self.class_axis == -1 and self.output is None and inputs.is_floating_point():
            # Images with positions before the classes are more often a mistake than meant; tokens have positions.
            raise self._refusal(logits, B)
        return logits if self.class_axis == -1 or logits.ndim == 2 else logits.movedim(1, -1)

    def _refusal(self, logits: Tensor, B: int) -> UserError:
        C = self.num_classes or "C"
        wanted = f"[{B}, {C}]" if self.class_axis == -1 else f"[{B}, {C}, ...]"
        if self.class_axis == -1 and self.output is not None:
            wanted = f"[{B}, ..., {C}]"
        return UserError(
            f"a network returned shape {list(logits.shape)}: a peer must return logits {wanted}, one row per image "
            "(dense predictions: class_axis=1; positions before the classes: output=lambda logits: logits); wrap it in "
            "a module that does."
        )

    def _entry(self, returned: Any) -> Any:
        if self.output is None:
            return returned
        if callable(self.output):
            return self.output(returned)
        if isinstance(returned, Mapping) and self.output in returned:
            return returned[self.output]
        if hasattr(returned, self.output):
            return getattr(returned, self.output)
        there = list(returned) if isinstance(returned, Mapping) else f"a {type(returned).__name__}"
        raise UserError(
            f"output {self.output!r}: the network returned {there}; name an entry that is there, {_naming(returned)}."
        )


def _naming(returned: object) -> str:
    """How a user would name the logits in what a network has returned."""
    if isinstance(returned, list | tuple) and not hasattr(returned, "_fields"):
        return "output=lambda returned: returned[0]"
    names = [str(name) for name in returned] if isinstance(returned, Mapping) else []
    return f'output="{names[0]}"' if names and "logits" not in names else 'output="logits"'
