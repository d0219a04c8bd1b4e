"""RandAugment and TrivialAugment on batches of uint8, every image with its own operation and strength.

Operations and strengths are torchvision's. Its classes draw one operation for a whole batch; here every image draws its
own, and all images with the same operation are changed in one call. torchvision's functions do the operations without a
strength, and give the second image of those that blend two images. The five operations that move pixels use one
sampling grid per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BINS", "OPERATIONS", "apply_operations", "randaugment", "trivialaugment"]

BINS = 31
"""Steps of strength, from nothing (0) to the most (30)."""

_MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_BLENDS = ("Brightness", "Color", "Contrast", "Sharpness")
OPERATIONS = ("Identity", *_MOVES, *_BLENDS, "Posterize", "Solarize", "AutoContrast", "Equalize")
"""All operations; one is drawn by its index."""

_NARROW = {"Shear": 0.3, "Rotate": 30.0, "blend": 0.9, "Posterize": 4}
_WIDE = {"Shear": 0.99, "Rotate": 135.0, "blend": 0.99, "Posterize": 6}


def randaugment(images_BCHW: Tensor, ops: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """Return the images after `ops` operations each, all of strength `magnitude` of 30 (Cubuk et al., 2020).

    Args:
        images_BCHW: uint8, one or three channels; not changed.
        ops: operations on each image, drawn with replacement.
        magnitude: 0 to 30.
        generator: CPU generator that draws operations and signs.
    """
    B, _, H, W = images_BCHW.shape
    limits = {**_NARROW, "TranslateX": 150 / 331 * W, "TranslateY": 150 / 331 * H}
    images = images_BCHW.clone()
    level_B = torch.full((B,), magnitude)
    for _ in range(ops):
        op_B = torch.randint(len(OPERATIONS), (B,), generator=generator)
        sign_B = torch.randint(2, (B,), generator=generator) * 2 - 1
        apply_operations(images, op_B, level_B, sign_B, limits)
    return images


def trivialaugment(images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images after one operation each, with one of 31 strengths (Müller and Hutter, 2021, "wide").

    Args:
        images_BCHW: uint8, one or three channels; not changed.
        generator: CPU generator that draws operations, strengths and signs.
    """
    B = len(images_BCHW)
    images = images_BCHW.clone()
    op_B = torch.randint(len(OPERATIONS), (B,), generator=generator)
    level_B = torch.randint(BINS, (B,), generator=generator)
    sign_B = torch.randint(2, (B,), generator=generator) * 2 - 1
    apply_operations(images, op_B, level_B, sign_B, {**_WIDE, "TranslateX": 32.0, "TranslateY": 32.0})
    return images


def apply_operations(
    images_BCHW: Tensor, op_B: Tensor, level_B: Tensor, sign_B: Tensor, limits: dict[str, float]
) -> None:
    """Apply to each image, in place, its operation (index into OPERATIONS), level (0 to 30) and sign (-1 or 1).

    `limits` holds the values at level 30: "Shear", "TranslateX" and "TranslateY" (pixels), "Rotate" (degrees),
    "blend" (how far a factor goes from 1) and "Posterize" (how many bits are removed).
    """
    move_N = torch.isin(op_B, torch.tensor([OPERATIONS.index(name) for name in _MOVES]))
    groups: list[tuple[Tensor, Callable[[Tensor, Tensor, Tensor], Tensor]]] = []
    if move_N.any():
        groups.append((move_N, lambda x, level, sign: _move(x, op_B[move_N], level, sign, limits)))
    for name in OPERATIONS[1 + len(_MOVES) :]:
        chosen_B = op_B == OPERATIONS.index(name)
        if chosen_B.any():
            groups.append((chosen_B, lambda x, level, sign, name=name: _repaint(name, x, level, sign, limits)))
    for chosen_B, change in groups:
        index_N = chosen_B.nonzero().squeeze(1)
        on_device_N = index_N.to(images_BCHW.device, non_blocking=True)
        images_BCHW[on_device_N] = change(images_BCHW[on_device_N], level_B[index_N] / (BINS - 1), sign_B[index_N])


def _move(images: Tensor, op_N: Tensor, share_N: Tensor, sign_N: Tensor, limits: dict[str, float]) -> Tensor:
    """Shear, translate and rotate: each image's matrix says where a pixel is fetched (nearest one; black outside)."""
    N, _, H, W = images.shape
    matrix_N23 = torch.eye(2, 3, dtype=torch.float64).repeat(N, 1, 1)
    for name in _MOVES:
        n = (op_N == OPERATIONS.index(name)).nonzero().squeeze(1)
        top = limits["Shear"] if name.startswith("Shear") else limits[name]
        value = sign_N[n] * share_N[n].double() * top
        if name == "ShearX":  # about the upper left corner
            matrix_N23[n, 0, 1], matrix_N23[n, 0, 2] = value, value * H / 2
        elif name == "ShearY":
            matrix_N23[n, 1, 0], matrix_N23[n, 1, 2] = value, value * W / 2
        elif name == "Rotate":
            cos, sin = (value * math.pi / 180).cos(), (value * math.pi / 180).sin()
            matrix_N23[n, 0, 0], matrix_N23[n, 0, 1], matrix_N23[n, 1, 0], matrix_N23[n, 1, 1] = cos, -sin, sin, cos
        else:
            matrix_N23[n, 0 if name == "TranslateX" else 1, 2] = -value.trunc()
    # Positions are in pixels from the image's centre; grid_sample needs them in units of half the image's sides.
    y_H, x_W = (torch.linspace((1 - n) / 2, (n - 1) / 2, n) for n in (H, W))
    place_L3 = torch.stack([x_W.expand(H, W), y_H[:, None].expand(H, W), torch.ones(H, W)], -1).view(-1, 3)
    scaled_N32 = (matrix_N23.transpose(1, 2) / torch.tensor([W / 2, H / 2])).float()
    grid_NHW2 = (place_L3.to(images.device, non_blocking=True) @ scaled_N32.to(images.device, non_blocking=True)).view(
        N, H, W, 2
    )
    moved = functional.grid_sample(images.float(), grid_NHW2, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved.round_().to(torch.uint8)


def _repaint(name: str, images: Tensor, share_N: Tensor, sign_N: Tensor, limits: dict[str, float]) -> Tensor:
    # Imported here because torchvision takes a second, and commands without images do not need it.
    from torchvision.transforms.v2 import functional as vision

    def per_image(values_N: Tensor, dtype: torch.dtype) -> Tensor:
        return values_N.to(dtype).to(images.device, non_blocking=True)[:, None, None, None]

    if name in _BLENDS:
        factor = per_image(1 + sign_N * share_N * limits["blend"], torch.float32)
        return _blend(images, _blend_partner(name, images), factor)
    if name == "Posterize":
        bits_N = (8 - share_N * limits["Posterize"]).round().long()
        return images & per_image(256 - 2 ** (8 - bits_N), torch.uint8)
    if name == "Solarize":
        return torch.where(images >= per_image(255 * (1 - share_N), torch.float32), 255 - images, images)
    return vision.autocontrast(images) if name == "AutoContrast" else vision.equalize(images)


def _blend_partner(name: str, images: Tensor) -> Tensor:
    """The images at a blend factor of 0: black, grey, their mean grey, or blurred."""
    from torchvision.transforms.v2 import functional as vision

    if name == "Brightness":
        return torch.zeros((), device=images.device)
    if name == "Sharpness":
        return vision.adjust_sharpness(images, 0.0).float()
    grey = vision.rgb_to_grayscale(images).float() if images.shape[1] == 3 else images.float()
    return grey if name == "Color" else grey.mean((1, 2, 3), keepdim=True)


def _blend(images: Tensor, partner: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + partner * (1 - factor)).clamp_(0, 255).to(torch.uint8)
