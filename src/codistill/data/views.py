"""From uint8 images to what the peers see: batched random crop and flip, a policy's distortion, normalised floats.

Distorting stays on uint8, which moves a quarter of the bytes, and no step loops over images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.distort import randaugment, trivialaugment
from codistill.data.normalise import normalise
from codistill.data.policy import AugmentPolicy
from codistill.errors import UserError

__all__ = ["crop_and_flip", "finish_views", "make_views"]


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
        policy: random crop (zero padding; offsets uniform in 0 to 2 × padding), horizontal flip, and what its names
            add; mixup and cutmix, which change labels too, are `mix_views`.
        mean: one number a channel, of images scaled to 0..1.
        std: likewise.
        peers: how many tensors `distinct` gives.
        distinct: whether peers see different distortions.
        generator: CPU generator that draws all of it; equal states give equal views.
        device: where the views go.

    Returns:
        float32 [B, C, H, W], or with `distinct` a tuple of `peers` such tensors.

    Raises:
        UserError: there are no peers.
    """
    if peers < 1:
        raise UserError(f"peers {peers}: views need at least one peer.")
    images = images_u8_BCHW.to(device, non_blocking=True)
    frames_VBCHW = crop_and_flip(images, policy, peers if distinct else 1, generator)
    views = finish_views(frames_VBCHW, policy, mean, std, generator, device)
    return views if distinct else views[0]


def crop_and_flip(images_BCHW: Tensor, policy: AugmentPolicy, views: int, generator: torch.Generator) -> Tensor:
    """Cropped and flipped copies of the images, uint8 [V, B, C, H, W], on their device."""
    frames_VBCHW = _crop(images_BCHW, policy.crop_padding, views, generator)
    if not policy.flip:
        return frames_VBCHW
    flip_VB = torch.rand(frames_VBCHW.shape[:2], generator=generator, device=generator.device) < 0.5
    flip_VB = flip_VB.to(images_BCHW.device, non_blocking=True)
    return torch.where(flip_VB[:, :, None, None, None], frames_VBCHW.flip(-1), frames_VBCHW)


def finish_views(
    frames_VBCHW: Tensor,
    policy: AugmentPolicy,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    generator: torch.Generator,
    device: torch.device | str,
    out_VBCHW: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Cropped uint8 images to V normalised float32 views [B, C, H, W] on `device`, each under its policy's names.

    `out_VBCHW` is float32 memory for the views, such as that of an earlier step.

    Raises:
        UserError: there are several policies, and not one a view.
    """
    policy.check_views(len(frames_VBCHW))
    frames = frames_VBCHW.to(device, non_blocking=True)
    if not policy.distorts:
        return normalise(frames, mean, std, device, out_VBCHW).unbind()
    views = []
    for v, frame_BCHW in enumerate(frames):
        wanted = policy.names(v)
        if "randaugment" in wanted:
            ops, magnitude = policy.randaugment_ops, policy.randaugment_magnitude
            frame_BCHW = randaugment(frame_BCHW, ops, magnitude, generator)
        elif "trivialaugment" in wanted:
            frame_BCHW = trivialaugment(frame_BCHW, generator)
        view = normalise(frame_BCHW, mean, std, device, None if out_VBCHW is None else out_VBCHW[v])
        views.append(_cutout(view, policy.cutout_size, generator) if "cutout" in wanted else view)
    return tuple(views)


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


def _cutout(view_BCHW: Tensor, size: int | None, generator: torch.Generator) -> Tensor:
    """Set a square around a uniform centre of each image to the mean colour, 0 (DeVries and Taylor, 2017)."""
    B, _, H, W = view_BCHW.shape
    size = min(H, W) // 2 if size is None else size
    mask = torch.ones(1, dtype=torch.bool)
    for n, shape in ((H, (B, 1, H, 1)), (W, (B, 1, 1, W))):
        start_B1 = torch.randint(n, (B, 1), generator=generator) - size // 2
        place_N = torch.arange(n)
        mask = mask & ((place_N >= start_B1) & (place_N < start_B1 + size)).view(shape)
    return view_BCHW.masked_fill_(mask.to(view_BCHW.device, non_blocking=True), 0.0)
