"""Global average pooling of feature maps of any layout to [B, D]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["channel_axis", "pool"]


def channel_axis(shape: Sequence[int]) -> int:
    """Return which axis of a feature map holds the channels.

    [B, D] and tokens [B, N, D]: the last. Four axes: 1, that is [B, D, H, W], unless axes 1 and 2 are equal and axis 3
    is not, which is [B, H, W, D] of a square image. (The group looks at square images, so D = H = W alone stays
    undecided; then it is 1.) Five axes and more: 1.
    """
    if len(shape) <= 3:
        return len(shape) - 1
    last = len(shape) == 4 and shape[1] == shape[2] != shape[3]
    return 3 if last else 1


def pool(x: Tensor, axis: int) -> Tensor:
    """Mean over all positions: [B, ..., D, ...] with the channels at `axis` -> [B, D]."""
    positions = [d for d in range(1, x.ndim) if d != axis % x.ndim]
    return x.mean(dim=positions) if positions else x
