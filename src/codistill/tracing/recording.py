"""Notices what a forward does that its trace would not hold: a trace is a list of operations and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

__all__ = ["UnrecordedError", "has_hooks", "nothing_unrecorded", "switches"]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class UnrecordedError(Exception):
    """The forward does more than its trace would; the message says what."""


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks, or a `forward` of this very object, run beside the forward of its class."""
    return any(getattr(module, kind) for kind in HOOKS) or "forward" in vars(module)


def switches() -> tuple[bool, ...]:
    """Torch's state that changes what an operation does, and that a scope in a forward may switch."""
    autocast = [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast


@contextmanager
def nothing_unrecorded(opened: Mapping[str, nn.Module]) -> Iterator[None]:
    """A scope in which these modules are traced.

    Args:
        opened: by path, the modules whose forward the trace replaces by its operations.

    Raises:
        UnrecordedError: hooks, a `train` of the module's own, random numbers that would stay those of the trace, or
            state that the forward changes.
    """
    for path, module in opened.items():
        if has_hooks(module):
            raise UnrecordedError(f"{_name(path, module)} has hooks or a forward of its own, which would not run")
        if type(module).train is not nn.Module.train or "train" in vars(module):
            raise UnrecordedError(f"{_name(path, module)} overrides train(), which would not be called")
    # Kept as well as marked, so that no new object takes the place, and with it the id, of an old one.
    before = {path: _state(module) for path, module in opened.items()}
    marks = {path: {key: _mark(value) for key, value in state.items()} for path, state in before.items()}
    drawn = _random_state()
    yield
    if _random_state() != drawn:
        raise UnrecordedError("it draws random numbers without its input, which would be the same in every step")
    for path, module in opened.items():
        for key, value in _state(module).items():
            # A constant that is kept after its first use is no state.
            first = before[path].get(key) is None
            if _holds_proxy(value) or (not first and _mark(value) != marks[path][key]):
                raise UnrecordedError(f"{_name(path, module)} changes {key!r} as it runs, which would be lost")


def _name(path: str, module: nn.Module) -> str:
    return f"{path!r}" if path else type(module).__name__


def _random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the state that a forward draws from)
    return random.getstate(), torch.get_rng_state().numpy().tobytes(), kind, np.asarray(keys).tobytes(), *rest


def _state(module: nn.Module) -> dict[str, Any]:
    """Attributes and buffers, but not what torch or the tracer itself keeps there."""
    kept = {**vars(module), **module._buffers}
    inner = {"_parameters", "_buffers", "_modules"}
    return {key: value for key, value in kept.items() if key not in inner and not key.startswith("_tensor_constant")}


def _mark(value: Any) -> Any:
    """What differs after a change of a value, in place or not."""
    if isinstance(value, Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, list | tuple | set | dict):
        return [id(part) for part in (value.values() if isinstance(value, dict) else value)]
    # By text, since a NaN differs from itself and equal devices and types are made anew.
    plain = isinstance(value, int | float | str | torch.device | torch.dtype | torch.Size)
    return repr(value) if plain else id(value)


def _holds_proxy(value: Any) -> bool:
    return any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(value))
