"""Wide pictures whose class shows in the middle alone: squashed instead of cropped, they show another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def write_wide(folder: Path, per_class: int, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write FOLDER/CLASS/N.png of 180 × 60 pixels."""
    rng = np.random.default_rng(seed)
    for name in classes:
        label = CLASSES.index(name)
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.full((60, 180, 3), 40)
            pixels[..., (label + 1) % 3] = 200
            pixels[:, 60:120] = 40
            pixels[:, 60:120, label] = 200
            noisy = np.clip(pixels + rng.integers(-25, 25, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{number:02d}.png")
    return folder
