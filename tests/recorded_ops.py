"""Stands in for a CUDA graph on the CPU: refuses what would make the host wait for a device, and runs a step again."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

# What torch tags as giving a number to the host, or a shape that depends on values.
WAITING_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# Waits on a device, and has no tag: the check behind torch.linalg.solve and its like.
WAITING = {aten._linalg_check_errors.default}
# Waits only where an index is a mask.
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
COPIES = {aten._to_copy.default, aten.copy_.default}
# Goes past the dispatcher on the CPU.
READING = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}


READERS = ("codistill.methods.base", "codistill.methods.checks", "codistill.targets.linear")


def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library take tensors of the CPU for those of a device, whose values it must not look at."""
    for module in READERS:
        monkeypatch.setattr(sys.modules[module], "read_freely", lambda _: False)


class WaitError(RuntimeError):
    """An operation for which the host would wait on a device, or which a CUDA graph cannot hold."""


class RefusesWaiting(TorchDispatchMode):
    """Within it, whatever would make the host wait for a device raises `WaitError`.

    Args:
        sends: let tensors of the host be sent to a device without waiting, which a CUDA graph cannot hold.
    """

    def __init__(self, sends: bool = False) -> None:
        super().__init__()
        self._sends = sends
        self._reading = _RefusesReading()

    def __enter__(self) -> Any:
        self._reading.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._reading.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a fake tensor is asked for its device
            return func(*args, **kwargs)
        # In inference mode composite operations arrive whole, and could hide what they are made of.
        with self, torch._C.DisableTorchFunction():
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        sent = self._sends and kwargs.get("non_blocking", False)
        if not sent and _waits(func, args, kwargs):
            raise WaitError(f"{func} would make the host wait for the device")
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


class RecordedOps(RefusesWaiting):
    """Records the operations run within it; `replay` runs them again on the tensors of the recording, in place.

    with RecordedOps() as recorded:
        loss = step(inputs)
        loss.backward()
    inputs.copy_(others)
    recorded.replay()  # loss and gradients now hold the values for `others`
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    # Inference mode alone allows writes both to tensors that need gradients and to those made in inference mode.
    @torch.inference_mode()
    def replay(self) -> None:
        """Run every recorded operation again, in order, on what its tensors hold by now."""
        for func, args, kwargs, out in self.calls:
            given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
            for old, new in zip(_tensors(out), _tensors(func(*args, **kwargs)), strict=True):
                if _storage(old) not in given:
                    old.copy_(new)


class _RefusesReading(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            raise WaitError(f"{func.__qualname__} would make the host wait for the device")
        return func(*args, **(kwargs or {}))


def _waits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if func in INDEXED:
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    if func in COPIES:  # pageable memory makes the host wait, and a graph cannot hold the copy
        devices = {tensor.device for tensor in _tensors(args)}
        wanted = kwargs.get("device")
        return len(devices | ({torch.device(wanted)} if wanted is not None else set())) > 1
    return func in WAITING or not WAITING_TAGS.isdisjoint(func.tags)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
