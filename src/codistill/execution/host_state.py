"""What a step changes in the host's memory: a recorded step repeats only what the device did."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["HostState"]


class HostState:
    """The host's random states and the plain numbers in modules, as they are when this is made.

    Args:
        modules: what a step runs.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._random, self._numbers = _random_states(), _numbers(modules)

    def change(self) -> str | None:
        """What has changed since, with which a replay would go on as it was in one step; None if nothing has."""
        drawn = [name for name, state in _random_states().items() if state != self._random[name]]
        numbers = _numbers(self._modules)
        changed = [name for name, value in numbers.items() if self._numbers.get(name, value) != value]
        if drawn:
            return f"it draws random numbers on the host, by {drawn[0]}"
        return f"it changes the number {changed[0]!r} on the host" if changed else None


def _random_states() -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    states = {"random": random.getstate(), "torch": torch.get_rng_state().tolist()}
    return states if numpy is None else {**states, "numpy": str(numpy.random.get_state())}


def _numbers(modules: Sequence[nn.Module]) -> dict[str, int | float]:
    return {
        f"{path}.{name}".lstrip("."): value
        for module in modules
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, int | float)
    }
