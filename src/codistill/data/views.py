"""From uint8 images to what the peers see: batched random crop and flip, a policy's distortion, normalised floats.

Images stay uint8 until they are normalised, which moves a quarter of the bytes, and no step loops over images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from codistill.data.distort import randaugment, trivialaugment
from codistill.data.normalise import normalise
from codistill.data.policy import AugmentPolicy

__all__ = ["crop_and_flip", "finish_views"]


def crop_and_flip(images_BCHW: Tensor, policy: AugmentPolicy, views: int, generator: torch.Generator) -> Tensor:
    """Return V cropped and flipped copies of each image, uint8 [V, B, C, H, W], on the images' device.

    Every copy has its own offset and flip: with `policy.crop_padding` p the image gets p black pixels on each side, and
    the offset is uniform in 0 to 2p.

    Args:
        images_BCHW: uint8, on any device; not changed.
        policy: its crop and flip.
        views: V.
        generator: CPU generator; equal states give equal copies.
    """
    frames_VBCHW = _crop(images_BCHW, policy.crop_padding or 0, views, generator)
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
    """Distort the cropped images as the policy says for each view, and normalise them.

    Args:
        frames_VBCHW: uint8, from `crop_and_flip`.
        policy: what each view gets; mixup and cutmix, which also change the labels, are applied by `mix_views`.
        mean: one number per channel, for images scaled to 0..1.
        std: likewise.
        generator: CPU generator; equal states give equal views.
        device: where the views go.
        out_VBCHW: float32 memory to write the views into, such as the memory of an earlier step.

    Returns:
        V tensors, float32 [B, C, H, W], on `device`.

    Raises:
        UserError: there is more than one policy, but not one per view.
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
    # `unfold` makes all windows as strides over the padded images; one indexing operation copies the chosen ones.
    padded = functional.pad(images_BCHW, (padding,) * 4)
    windows = padded.unfold(2, H, 1).unfold(3, W, 1)
    return windows[torch.arange(B, device=images_BCHW.device), :, top_VB, left_VB]


def _cutout(view_BCHW: Tensor, size: int | None, generator: torch.Generator) -> Tensor:
    """Set a square around a random centre of each image to the mean colour, 0 (DeVries and Taylor, 2017)."""
    B, _, H, W = view_BCHW.shape
    size = min(H, W) // 2 if size is None else size
    mask = torch.ones(1, dtype=torch.bool)
    for n, shape in ((H, (B, 1, H, 1)), (W, (B, 1, 1, W))):
        start_B1 = torch.randint(n, (B, 1), generator=generator) - size // 2
        place_N = torch.arange(n)
        mask = mask & ((place_N >= start_B1) & (place_N < start_B1 + size)).view(shape)
    return view_BCHW.masked_fill_(mask.to(view_BCHW.device, non_blocking=True), 0.0)
