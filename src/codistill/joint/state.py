"""What happens around `state_dict` and `load_state_dict` of a `Joint`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["keep_state"]


def keep_state(module: nn.Module) -> None:
    """Prepare a module for being saved and loaded.

    Args:
        module: one whose attribute `averaging` lets moving averages follow; they are up to date when it is saved.
    """
    module.register_state_dict_pre_hook(_catch_up)
    module.register_state_dict_post_hook(_untie)
    module.register_load_state_dict_post_hook(_begin)


def _catch_up(module: Any, *_: object) -> None:
    module.averaging.catch_up()


def _begin(module: Any, *_: object) -> None:
    # Loading changes weights, and is no step.
    module.averaging.begin()


def _untie(_: nn.Module, state: dict[str, Any], prefix: str, __: object) -> None:
    """Tied weights, such as a language model's, under each name as a copy: safetensors takes no memory twice."""
    seen: set[tuple[int, torch.Size]] = set()
    for name, value in state.items():
        if name.startswith(prefix) and isinstance(value, Tensor) and not value.requires_grad and value.numel():
            key = value.data_ptr(), value.shape
            state[name] = value.clone() if key in seen else value
            seen.add(key)
