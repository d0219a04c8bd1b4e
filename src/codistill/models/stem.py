"""A network's first convolution for images of another number of channels."""

from __future__ import annotations

from torch import nn

from codistill.errors import UserError

__all__ = ["replace_stem"]


def replace_stem(net: nn.Module, in_channels: int, stride: int | None = None) -> nn.Module:
    """Replace the first convolution of `net`, in place, by one of `in_channels` that is the same in all else.

    Args:
        net: a network whose first convolution sees the images.
        in_channels: channels of the images.
        stride: of the new convolution, if not the old one's.

    Raises:
        UserError: the network has no 2-d convolution, or its first one has groups.
    """
    named = ((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    name, old = next(named, (None, None))
    if name is None or old is None or old.groups != 1:
        raise UserError(
            f"{type(net).__name__} with {in_channels} channels: it has no plain first convolution to replace; "
            "write a function that builds it and name it path/to/file.py:function."
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
