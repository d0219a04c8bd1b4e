"""From uint8 images to what the peers see: batched random crop and flip, then normalised floats.

Distorting stays on uint8, which moves a quarter of the bytes, and no step loops over images.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.types import AugmentPolicy
from codistill.errors import UserError

__all__ = ["make_views", "normalise"]


def make_views(
    images_u8_BCHW: Tensor,
    policy: AugmentPolicy,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    peers: int,
    distinct: bool,
    generator: torch.Generator,
    device: torch.device | str,
) -> Tensor | tuple[Tensor, ...]:
    """Distort and normalise a batch for a group of peers.

    Each image has its own offset and flip. With `distinct` (KDCL's ICL, section 3.3) each peer sees the same images in
    the same order, each under a distortion of that peer's own; otherwise all peers share one tensor.

    Args:
        images_u8_BCHW: uint8, on any device.
        policy: random crop (zero padding; offsets uniform in 0 to 2 × padding) and horizontal flip.
        mean: one number a channel, of images scaled to 0..1.
        std: likewise.
        peers: how many tensors `distinct` gives.
        distinct: whether peers see different distortions.
        generator: draws offsets and flips; equal states give equal views.
        device: where the views go.

    Returns:
        float32 [B, C, H, W], or with `distinct` a tuple of `peers` such tensors.

    Raises:
        UserError: there are no peers.
    """
    if peers < 1:
        raise UserError(f"peers {peers}: views need at least one peer.")
    images = images_u8_BCHW.to(device, non_blocking=True)
    views_VBCHW = _crop(images, policy.crop_padding, peers if distinct else 1, generator)
    if policy.flip:
        flip_VB = torch.rand(views_VBCHW.shape[:2], generator=generator, device=generator.device) < 0.5
        flip_VB = flip_VB.to(device, non_blocking=True)
        views_VBCHW = torch.where(flip_VB[:, :, None, None, None], views_VBCHW.flip(-1), views_VBCHW)
    views = normalise(views_VBCHW, mean, std, device).unbind()
    return views if distinct else views[0]


def normalise(images_u8: Tensor, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str) -> Tensor:
    """Return (x / 255 - mean) / std as float32 on `device`, for uint8 [..., C, H, W]; evaluation sees images so."""
    shift, scale = _constants(tuple(mean), tuple(std), torch.device(device))
    return images_u8.to(device, non_blocking=True).to(torch.float32).sub_(shift).div_(scale)


def _crop(images_BCHW: Tensor, padding: int, views: int, generator: torch.Generator) -> Tensor:
    B, _, H, W = images_BCHW.shape
    if padding == 0:
        return images_BCHW.expand(views, -1, -1, -1, -1)
    offset_2VB = torch.randint(0, 2 * padding + 1, (2, views, B), generator=generator, device=generator.device)
    top_VB, left_VB = offset_2VB.to(images_BCHW.device, non_blocking=True)
    # All windows exist as strides over the padded images; one indexing copies the chosen ones.
    padded = functional.pad(images_BCHW, (padding,) * 4)
    windows = padded.unfold(2, H, 1).unfold(3, W, 1)
    return windows[torch.arange(B, device=images_BCHW.device), :, top_VB, left_VB]


@lru_cache(maxsize=16)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # Kept from step to step, since a copy from the host would make every step wait for the device.
    both = torch.tensor([mean, std], dtype=torch.float64) * 255
    shift, scale = both.to(torch.float32).to(device)[:, :, None, None]
    return shift, scale
