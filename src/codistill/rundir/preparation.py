"""How a picture becomes an image that a run's networks read, as its test images did (docs/predict.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codistill.rundir.record import Record, RecordError

__all__ = ["RESIZES", "Preparation"]

MOST_PIXELS = 16_384
"""Of a side: a picture is resized to it, so a wrong number would take all memory."""
RESIZES = ("cover", "shorter_side", "squash", "none")


@dataclass(frozen=True, kw_only=True)
class Preparation(Record):
    """The steps of `codistill.prepare`, in their order: upright, 8 bits, grey or RGB, resized, scaled, normalised.

    Attributes:
        channels: 1 for grey, 3 for RGB; transparency is dropped.
        resize: "cover" (scaled until it covers height × width, and its centre cropped, in one resampling),
            "shorter_side" (its shorter side scaled to `shorter_side` pixels, then its centre cropped), "squash" (scaled
            to height × width whatever its ratio) or "none" (it must have that size).
        height: in pixels.
        width: in pixels.
        shorter_side: in pixels; None for the other rules.
        interpolation: always "bilinear".
        antialias: always true.
        mean: of pixels scaled to 0..1, per channel.
        std: likewise.
    """

    channels: int
    resize: str
    height: int
    width: int
    shorter_side: int | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        known = (
            ("channels", self.channels in (1, 3), "1 or 3"),
            ("resize", self.resize in RESIZES, f"one of {', '.join(RESIZES)}"),
            ("interpolation", self.interpolation == "bilinear", "'bilinear'"),
            ("antialias", self.antialias, "true"),
            ("mean", self._per_channel(self.mean), "one finite number per channel"),
            ("std", self._per_channel(self.std), "one finite number per channel"),
            ("height", 0 < self.height <= MOST_PIXELS, f"from 1 to {MOST_PIXELS}"),
            ("width", 0 < self.width <= MOST_PIXELS, f"from 1 to {MOST_PIXELS}"),
            (
                "shorter_side",
                self.resize != "shorter_side" or self._covers(),
                f"at least height and width, and at most {MOST_PIXELS}",
            ),
        )
        for name, right, rule in known:
            if not right:
                raise RecordError(f"is {getattr(self, name)!r}: it must be {rule}", name)

    def _covers(self) -> bool:
        return self.shorter_side is not None and max(self.height, self.width) <= self.shorter_side <= MOST_PIXELS

    def _per_channel(self, numbers: tuple[float, ...]) -> bool:
        return len(numbers) == self.channels and all(map(math.isfinite, numbers))
