"""Examines a network by running a copy of it without values.

The copy, called the ghost, is on torch's meta device: its tensors have shapes but no values. What is examined is up to
a function, called the look, that runs the ghost. The given network does not change, no random number is drawn, and even
large networks take milliseconds. A network that reads values cannot run on the meta device: the ghost is then a real
copy, which runs on zeros. It is always in evaluation mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from codistill.errors import UserError

__all__ = ["first_line", "probe", "without_values"]

SIZES = (32, 224, 299)
"""Image sizes to try if neither an example nor the network itself gives one."""

R = TypeVar("R")


# Tensors made in inference mode do not count their in-place changes, which a look may need.
@torch.inference_mode(False)
def probe(net: nn.Module, example: Tensor | None, look: Callable[[nn.Module, Tensor], R]) -> R:
    """Return `look(ghost, images)` for the first ghost and images with which it runs.

    Args:
        net: the network; not changed.
        example: a batch of images that the network accepts; None: try the size that the network itself gives
            (torchvision's `image_size`, timm's `default_cfg`) and then `SIZES`.
        look: runs the ghost. A UserError that it raises is final; after any other exception the next images are tried.

    Raises:
        UserError: raised by `look`, or the network runs with none of the images.
    """
    failure: Exception | None = None
    tries: list[str] = []
    for on_meta in (True, False):
        ghost = _ghost_of(net, on_meta).eval()
        for images in _candidates(ghost, example):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    return look(ghost, images)
            except UserError:
                raise
            except Exception as error:
                # The error of the first real run, at the size that the network itself gives, says the most.
                failure = failure if failure and not on_meta and tries else error
                tries += [] if on_meta else [str(list(images.shape))]
    embedding = _first_embedding(net) if example is None else None
    if embedding is not None:
        raise UserError(
            f"{type(net).__name__} takes no images (its first layer, {embedding!r}, is an embedding): pass example=, a "
            "batch that it accepts, such as torch.zeros(2, 32, dtype=torch.long)."
        ) from failure
    remedy = "pass example=, a batch that it accepts" if example is None else "give an example that it accepts"
    if example is not None and example.ndim == 4:
        remedy = "give images of another size (--image-size), or another network"
    raise UserError(
        f"{type(net).__name__} does not run on zeros of shape {' or '.join(tries)} "
        f"({type(failure).__name__}: {first_line(failure)}): {remedy}."
    ) from failure


def _first_embedding(net: nn.Module) -> str | None:
    """The path of the network's first layer with parameters where that is an embedding, else None."""
    with_parameters = ((path, part) for path, part in net.named_modules() if part._parameters)
    path, first = next(with_parameters, ("", net))
    return path if isinstance(first, nn.Embedding) else None


def _ghost_of(net: nn.Module, on_meta: bool) -> nn.Module:
    try:
        return without_values(net, lambda tensor: tensor.to("meta")) if on_meta else copy.deepcopy(net)
    except Exception as error:
        raise UserError(
            f"{type(net).__name__} cannot be copied ({type(error).__name__}: {first_line(error)}), but students are "
            "handed out as copies: remove from it what copy.deepcopy refuses."
        ) from error


def first_line(error: BaseException | None) -> str:
    """The first line of an exception's text, for a message of one sentence."""
    return str(error).strip().partition("\n")[0]


def without_values(net: nn.Module, replace: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a copy of `net` in which `replace` has replaced every parameter and buffer."""
    # For an object in its memo, deepcopy returns the entry: no real tensor is copied, and tied ones stay tied.
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
    layers = (m for m in net.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear))
    first = next(layers, None)
    if isinstance(first, nn.Linear):
        # The layer that is declared first may not be the one that runs first.
        for width in dict.fromkeys(m.in_features for m in net.modules() if isinstance(m, nn.Linear)):
            yield (width,)
    channels = first.in_channels if isinstance(first, nn.modules.conv._ConvNd) else 3
    axes = len(first.kernel_size) if isinstance(first, nn.modules.conv._ConvNd) else 2
    named = _named_size(net)
    for size in ([named] if named else []) + [s for s in SIZES if s != named]:
        # A stem may fold pixels into channels, and then does not say how many the images have: try RGB too.
        for c in dict.fromkeys((channels, 3)):
            yield (c, *[size] * axes)


def _named_size(net: nn.Module) -> int | None:
    config = getattr(net, "default_cfg", None)
    size = config.get("input_size", (None,))[-1] if isinstance(config, dict) else getattr(net, "image_size", None)
    return size if isinstance(size, int) else None
