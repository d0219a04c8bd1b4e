"""Random crops and squares that leave nothing of an image to learn from."""

from __future__ import annotations

from codistill.data import AugmentPolicy

__all__ = ["empty_views"]

MANY = 0.05
"""Share of the views above which it is said."""


def empty_views(policy: AugmentPolicy, height: int, width: int, padded: bool) -> dict[str, str]:
    """Return a sentence for each distortion that leaves nothing of many images.

    Args:
        policy: with its crop filled in.
        height: of an image in pixels.
        width: likewise.
        padded: whether the images are cropped after padding, as those in memory are.
    """
    said, sides = {}, f"{height} × {width} pixels"
    padding, size = policy.crop_padding or 0, policy.cutout_size
    share = _missed(height, padding), _missed(width, padding)
    lost = 1 - (1 - share[0]) * (1 - share[1])
    if padded and lost > MANY:
        said["empty crops"] = (
            f"{100 * lost:.0f} % of the random crops hold nothing of the image: augment.crop_padding {padding} is as "
            f"large as the images of {sides} or larger; give a few pixels, or 0 for no crop"
        )
    views = range(len(policy.policies))
    covered = 0.0 if size is None else _covered(height, size) * _covered(width, size)
    if covered > MANY and any("cutout" in policy.names(view) for view in views):
        said["empty cutouts"] = (
            f"cutout covers {100 * covered:.0f} % of the images that get it whole: augment.cutout_size {size} is too "
            f"large for images of {sides}; leave it out for half a side"
        )
    return said


def _missed(side: int, padding: int) -> float:
    """Share of the offsets 0 to 2p at which a window of the image's own side lies beside it."""
    return 2 * max(padding - side + 1, 0) / (2 * padding + 1)


def _covered(side: int, size: int) -> float:
    """Share of the centres at which a span of `size` pixels covers the whole side."""
    return sum(centre - size // 2 <= 0 and centre - size // 2 + size >= side for centre in range(side)) / side
