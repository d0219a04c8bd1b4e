"""Detects what a forward does that its trace does not record: a trace is a list of operations and nothing else."""

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

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class UnrecordedError(Exception):
    """The forward does something that its trace does not record; the message says what."""


def has_hooks(module: nn.Module) -> bool:
    """Whether the module has hooks, or a `forward` of its own that replaces the one of its class."""
    return any(getattr(module, kind) for kind in _HOOKS) or "forward" in vars(module)


def switches() -> tuple[bool, ...]:
    """Torch's modes that change what an operation does, and that a forward may switch."""
    autocast = [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast


@contextmanager
def nothing_unrecorded(opened: Mapping[str, nn.Module]) -> Iterator[None]:
    """A scope for tracing; it raises an error if the trace would not do everything that the modules do.

    Args:
        opened: by path, the modules whose forward the trace replaces by its operations.

    Raises:
        UnrecordedError: a module has hooks or overrides `train`, or its forward draws random numbers that would be the
            same in every step, or changes the module's state.
    """
    for path, module in opened.items():
        if has_hooks(module):
            raise UnrecordedError(f"{_name(path, module)} has hooks or a forward of its own, which would not run")
        if type(module).train is not nn.Module.train or "train" in vars(module):
            raise UnrecordedError(f"{_name(path, module)} overrides train(), which would not be called")
    # The values are kept as well as their marks, so that no new object gets the id of a deleted one.
    before = {path: _state(module) for path, module in opened.items()}
    marks = {path: {key: _mark(value) for key, value in state.items()} for path, state in before.items()}
    drawn = _random_state()
    yield
    if _random_state() != drawn:
        raise UnrecordedError("it draws random numbers without its input, which would be the same in every step")
    for path, module in opened.items():
        for key, value in _state(module).items():
            # A constant that is stored at its first use is not state.
            first = before[path].get(key) is None
            if _holds_proxy(value) or (not first and _mark(value) != marks[path][key]):
                raise UnrecordedError(f"{_name(path, module)} changes {key!r} as it runs, which would be lost")


def _name(path: str, module: nn.Module) -> str:
    return f"{path!r}" if path else type(module).__name__


def _random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the state that a forward draws from)
    return random.getstate(), torch.get_rng_state().numpy().tobytes(), kind, np.asarray(keys).tobytes(), *rest


def _state(module: nn.Module) -> dict[str, Any]:
    """Attributes and buffers, without those that torch or the tracer itself adds."""
    kept = {**vars(module), **module._buffers}
    inner = {"_parameters", "_buffers", "_modules"}
    return {key: value for key, value in kept.items() if key not in inner and not key.startswith("_tensor_constant")}


def _mark(value: Any) -> Any:
    """Something that is different after a value was changed, in place or not."""
    if isinstance(value, Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, list | tuple | set | dict):
        return [id(item) for item in (value.values() if isinstance(value, dict) else value)]
    # As text, since a NaN differs from itself, and equal devices and types may be new objects.
    plain = isinstance(value, int | float | str | torch.device | torch.dtype | torch.Size)
    return repr(value) if plain else id(value)


def _holds_proxy(value: Any) -> bool:
    return any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(value))
