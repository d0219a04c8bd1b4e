"""Identity forward, scaled gradient backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["scale_gradient"]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return `x`; the gradient that comes back through it is multiplied by `factor`."""
    return _ScaleGradient.apply(x, factor)  # pyright: ignore[reportReturnType]
