"""Keeps a CPU's convolutions away from a kernel that writes outside its memory.

The gradient of the weights of a 1x1 convolution with a stride, on channels-last activations of fewer channels than one
vector register holds (16), is wrong or ends the process: https://github.com/uxlfoundation/oneDNN/issues/6035.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

__all__ = ["safe_convolutions"]

CHANNELS = 16
"""Input channels from which on the kernel is right."""


def safe_convolutions(*nets: nn.Module) -> AbstractContextManager[object]:
    """A scope in which such a convolution first takes the pixels that it reads and then has no stride.

    By definition that is the same function. Nothing happens where none of `nets` has such a layer, or
    they lie on another device; in groups, convolutions take other kernels.
    A forward that autograd runs again in backward (checkpointing) is outside; it must enter the scope again.
    """
    risky = any(
        isinstance(layer, nn.Conv2d)
        and layer.weight.device.type == "cpu"
        and _is_risky(layer.weight, layer.stride, layer.groups)
        for net in nets
        for layer in net.modules()
    )
    return _Safe() if risky else nullcontext()


class _Safe(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d:
            return func(*_without_stride(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _without_stride(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    """The arguments of `F.conv2d`, in its order and by its names."""
    if padding in ("valid", 0, (0, 0)) and _is_risky(weight, stride, groups):
        vertical, horizontal = _pair(stride)
        input, stride = input[..., ::vertical, ::horizontal], 1
    return input, weight, bias, stride, padding, dilation, groups


def _is_risky(weight: Tensor, stride: Any, groups: int) -> bool:
    return weight.shape[1] < CHANNELS and weight.shape[2:] == (1, 1) and stride not in (1, (1, 1)) and groups == 1
