"""Looks at a network by running it on nothing: a copy on the meta device has shapes and no values.

Nothing of the given network changes, no random number is drawn, and even large networks take milliseconds. Where a
network does not run on the meta device (it looks at values), a real copy runs on zeros, in evaluation mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError

__all__ = ["first_line", "ghost_of", "probe", "without_values"]

SIZES = (32, 224, 299)
"""Image sizes that are tried where neither an example nor the network itself names one."""

R = TypeVar("R")


# Tensors that are made in inference mode do not count their changes, which a look may ask for.
@torch.inference_mode(False)
def probe(net: nn.Module, example: Tensor | None, look: Callable[[nn.Module, Tensor], R]) -> R:
    """Return `look(ghost, images)` for the first kind of copy and of images with which it runs.

    Args:
        net: the network; unchanged.
        example: a batch of images that the network takes; None tries the size that the network itself names
            (torchvision's `image_size`, timm's `default_cfg`) and then `SIZES`.
        look: runs the copy; a UserError from it is final, any other exception is taken for images that do not fit.

    Raises:
        UserError: from `look`, or where nothing runs.
    """
    failure: Exception | None = None
    tries: list[str] = []
    for on_meta in (True, False):
        ghost = ghost_of(net, on_meta).eval()
        for images in _candidates(ghost, example):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    return look(ghost, images)
            except UserError:
                raise
            except Exception as error:
                # The first real run, on the size that the network itself names, says most.
                failure = failure if failure and not on_meta and tries else error
                tries += [] if on_meta else [str(list(images.shape))]
    remedy = "pass example=, a batch of images that it takes" if example is None else "give a network that takes them"
    raise UserError(
        f"{type(net).__name__} does not run on zeros of shape {' or '.join(tries)} "
        f"({type(failure).__name__}: {first_line(failure)}): {remedy}."
    ) from failure


def ghost_of(net: nn.Module, on_meta: bool = True) -> nn.Module:
    """Return a copy of `net` whose parameters and buffers lie on the meta device, or a real copy.

    Raises:
        UserError: it cannot be copied.
    """
    try:
        return without_values(net, lambda tensor: tensor.to("meta")) if on_meta else copy.deepcopy(net)
    except Exception as error:
        raise UserError(
            f"{type(net).__name__} cannot be copied ({type(error).__name__}: {first_line(error)}), and students are "
            "handed out as copies: leave out of it what copy.deepcopy refuses."
        ) from error


def first_line(error: BaseException | None) -> str:
    """What an exception says, for a message of one sentence."""
    return str(error).strip().partition("\n")[0]


def without_values(net: nn.Module, replace: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a copy of `net` with what `replace` makes of every parameter and buffer."""
    # deepcopy takes what its memo holds for an object, so no real tensor is copied and ties stay ties.
    memo: dict[int, object] = {}
    for parameter in net.parameters():
        memo[id(parameter)] = nn.Parameter(replace(parameter.detach()), requires_grad=parameter.requires_grad)
    for buffer in net.buffers():
        memo[id(buffer)] = replace(buffer.detach())
    return copy.deepcopy(net, memo)


def _candidates(ghost: nn.Module, example: Tensor | None) -> Iterator[Tensor]:
    first = next(ghost.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    dtype = torch.float32 if first is None else first.dtype
    if example is not None:
        yield torch.zeros_like(example, device=device) if example.is_meta else example.detach().to(device)
        return
    for shape in _shapes(ghost):
        yield torch.zeros(2, *shape, device=device, dtype=dtype)


def _shapes(net: nn.Module) -> Iterator[tuple[int, ...]]:
    parts = (m for m in net.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear))
    first = next(parts, None)
    if isinstance(first, nn.Linear):
        # Layers need not be declared in the order in which they run.
        for width in dict.fromkeys(m.in_features for m in net.modules() if isinstance(m, nn.Linear)):
            yield (width,)
    channels = first.in_channels if isinstance(first, nn.modules.conv._ConvNd) else 3
    axes = len(first.kernel_size) if isinstance(first, nn.modules.conv._ConvNd) else 2
    named = _named_size(net)
    for size in ([named] if named else []) + [s for s in SIZES if s != named]:
        # A stem that folds pixels into channels hides how many the images have: then they are RGB.
        for c in dict.fromkeys((channels, 3)):
            yield (c, *[size] * axes)


def _named_size(net: nn.Module) -> int | None:
    config = getattr(net, "default_cfg", None)
    size = config.get("input_size", (None,))[-1] if isinstance(config, dict) else getattr(net, "image_size", None)
    return size if isinstance(size, int) else None
