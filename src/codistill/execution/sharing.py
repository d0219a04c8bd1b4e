"""Tensors in memory that several processes see, and a module sent to another process without its tensors."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codistill.errors import UserError

__all__ = ["SharedTensors", "address_of", "pack_module", "unpack_module"]

ALIGNMENT = 64
"""Bytes: where a tensor's memory may begin, as torch's own allocator has it."""

_Place = tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int, int]


class SharedTensors:
    """Tensors one behind the other in one piece of shared memory; sent to another process, they are the same memory.

    Args:
        like: tensors whose shapes, dtypes and layouts (such as channels last) they get; the values are not taken.

    Raises:
        UserError: the system has too little shared memory.

    Attributes:
        tensors: the tensors, without gradient.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._places, size = _places(like)
        try:
            self._memory = torch.empty(max(size, 1), dtype=torch.uint8).share_memory_()
        except RuntimeError as error:
            raise UserError(
                f"executor 'processes' needs {size / 2**20:.0f} MiB of shared memory, and the system refuses them "
                f"({error}): allow more (docker run --shm-size 8g), or use the executor 'loop'."
            ) from error
        self.tensors = self._views()

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these tensors have the shapes, dtypes and layouts of the shared ones."""
        return _places(tensors)[0] == self._places

    @torch.no_grad()
    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Take these values, for the first of the tensors or for all."""
        for own, other in zip(self.tensors, tensors, strict=False):
            own.copy_(other)

    def copies(self) -> list[Tensor]:
        """The tensors in private memory, one piece for all."""
        return self._views(self._memory.clone())

    def _views(self, memory: Tensor | None = None) -> list[Tensor]:
        whole = self._memory if memory is None else memory
        # `.data`, so that autograd counts the changes of each tensor on its own.
        return [
            whole[start : start + size].view(dtype).as_strided(shape, stride).data
            for dtype, shape, stride, start, size in self._places
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places, "_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.tensors = self._views()


def _places(tensors: Sequence[Tensor]) -> tuple[list[_Place], int]:
    """Where each of these tensors has its place, and the bytes of all."""
    places: list[_Place] = []
    size = 0
    for tensor in tensors:
        # Strides that leave no gaps, whatever those of `tensor` are.
        dense = torch.empty_like(tensor, device="meta")
        places.append((tensor.dtype, tuple(tensor.shape), dense.stride(), size, tensor.nbytes))
        size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return places, size


def address_of(parts: Sequence[nn.Module]) -> list[int]:
    """Where the parameters and buffers of these modules (not of modules inside them) lie in memory."""
    held = [tensor for part in parts for tensor in (*part._parameters.values(), *part._buffers.values())]
    return [tensor.data_ptr() for tensor in held if tensor is not None]


def pack_module(module: nn.Module) -> bytes:
    """The module without the values of its parameters and buffers; UserError where it cannot be sent."""
    index = {id(tensor): i for i, tensor in enumerate((*module.parameters(), *module.buffers()))}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> int | None:
            return index.get(id(obj))

    packed = io.BytesIO()
    _refuse_unsendable(lambda: Pickler(packed).dump(module))
    return packed.getvalue()


def unpack_module(packed: bytes, tensors: Sequence[Tensor]) -> nn.Module:
    """The module of `pack_module` with these tensors as its parameters and buffers, in their order."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: int) -> Tensor:
            return tensors[pid]

    return _refuse_unsendable(Unpickler(io.BytesIO(packed)).load)


def _refuse_unsendable(attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except (pickle.PickleError, AttributeError, ImportError, TypeError, RuntimeError) as error:
        raise UserError(
            f"executor 'processes' cannot send the networks to other processes ({error}): define their classes and "
            "functions at the top of a module, or use the executor 'loop'."
        ) from error
