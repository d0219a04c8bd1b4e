"""Adapts a network's first convolution to images with a different number of channels."""

from __future__ import annotations

from torch import nn

from codistill.errors import UserError

__all__ = ["replace_stem"]


def replace_stem(net: nn.Module, in_channels: int, stride: int | None = None) -> nn.Module:
    """Replace the first convolution of `net`, in place, by one with `in_channels` inputs that is otherwise the same.

    Args:
        net: a network whose first convolution reads the images.
        in_channels: channels of the images.
        stride: stride of the new convolution; None: that of the old one.

    Raises:
        UserError: the network has no 2-d convolution, or its first one has groups.
    """
    named = ((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    name, old = next(named, (None, None))
    if name is None or old is None or old.groups != 1:
        raise UserError(
            f"{type(net).__name__} with {in_channels} channels: it has no plain first convolution to replace; "
            "write a function that builds it, and give it as path/to/file.py:function."
        )
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # pyright: ignore[reportArgumentType]
        stride=stride or old.stride,  # pyright: ignore[reportArgumentType]
        padding=old.padding,  # pyright: ignore[reportArgumentType]
        dilation=old.dilation,  # pyright: ignore[reportArgumentType]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,  # pyright: ignore[reportArgumentType]
    )
    net.set_submodule(name, new)
    return net
