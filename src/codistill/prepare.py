"""A picture as a trained network reads it. It needs Pillow and NumPy alone, so that a copy works without codistill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

__all__ = ["prepare", "upright"]

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""


def prepare(image: Any, how: Mapping[str, Any]) -> np.ndarray:
    """Return a picture as float32 [C, height, width]: one of a batch that the network reads.

    Args:
        image: a path, a file object or a PIL image; one that is not loaded yet may be decoded at a lower size (JPEG).
        how: the "preparation" of student.json.
    """
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            return prepare(opened, how)
    size = width, height = how["width"], how["height"]
    if how["resize"] == "cover":
        image.draft(image.mode, (2 * width, 2 * height))  # A JPEG need not be decoded in more detail than that.
    image = upright(image, how["channels"])
    if how["resize"] == "cover":
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    elif how["resize"] == "shorter_side":
        shorter, sides = how["shorter_side"], image.size
        image = image.resize([int(shorter * side / min(sides)) for side in sides], Image.Resampling.BILINEAR)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    elif how["resize"] == "squash":
        image = image.resize(size, Image.Resampling.BILINEAR)
    elif image.size != size:
        raise ValueError(f"the picture has {image.width} × {image.height} pixels, not {width} × {height}")
    pixels_CHW = np.asarray(image, np.float32).reshape(height, width, -1).transpose(2, 0, 1)
    mean, std = ((255 * np.array(how[name])).astype(np.float32)[:, None, None] for name in ("mean", "std"))
    return np.ascontiguousarray((pixels_CHW - mean) / std)


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Return the picture turned as its EXIF data say, with 8 bits, in mode L for one channel and RGB for three.

    Transparency is dropped. Integers of 16 bits and floats in 0 to 1 are scaled; ValueError for other numbers, since
    nothing says which one is white.
    """
    image.load()  # First, so that a damaged picture fails here and not in its EXIF data, whose faults do not matter.
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # Pillow's parser raises errors of many types.
        orientation = 1
    turn, form = TURNS.get(orientation) if isinstance(orientation, int) else None, image.format
    image = image if turn is None else image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":
        numbers_HW = np.asarray(image)
        low, high, sixteen = numbers_HW.min(), numbers_HW.max(), image.mode.startswith("I;16")
        if sixteen or (image.mode == "I" and form in ("PNG", "PPM") and 0 <= low <= high <= 65535):
            image = Image.fromarray((numbers_HW.astype(np.int32) // 257).astype(np.uint8))
        elif image.mode == "F" and 0 <= low <= high <= 1:
            image = Image.fromarray((numbers_HW * 255).round().astype(np.uint8))
        else:
            kind = "floats" if image.mode == "F" else "integers of 32 bits"
            only = "only 8 bits, 16 bits (I;16) and floats in 0 to 1 work"
            raise ValueError(f"{kind} from {low:g} to {high:g}, but {only}")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)
