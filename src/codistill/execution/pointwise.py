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
    A forward that autograd runs again in backward (checkpointing) is outside and must be given the scope anew.
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
        if func is F.conv2d and not kwargs:
            args = _without_stride(*args)
        return func(*args, **(kwargs or {}))


def _without_stride(x: Tensor, weight: Tensor, bias: Any, stride: Any = 1, padding: Any = 0, *rest: Any) -> tuple:
    groups = rest[1] if len(rest) > 1 else 1
    if padding in (0, (0, 0)) and _is_risky(weight, stride, groups):
        vertical, horizontal = _pair(stride)
        return x[..., ::vertical, ::horizontal], weight, bias, 1, padding, *rest
    return x, weight, bias, stride, padding, *rest


def _is_risky(weight: Tensor, stride: Any, groups: int) -> bool:
    return weight.shape[1] < CHANNELS and weight.shape[2:] == (1, 1) and stride not in (1, (1, 1)) and groups == 1
