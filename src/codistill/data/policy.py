"""How training images are distorted, by name: the policy of each view, and what mixing the labels requires of all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codistill.errors import UserError, unknown

__all__ = ["POLICIES", "AugmentPolicy"]

POLICIES = ("standard", "randaugment", "trivialaugment", "cutout", "mixup", "cutmix")
"""standard: crop and flip only; all others add to it. Names are joined by +, such as randaugment+cutout."""

_EITHER = (("randaugment", "trivialaugment"), ("mixup", "cutmix"))


@dataclass(frozen=True)
class AugmentPolicy:
    """How training images are distorted; `AugmentPolicy(0, False)` does not change images in memory.

    Attributes:
        crop_padding: black pixels added on each side before a random crop back to the image's size; 0: no crop. Images
            that are not in memory get a random resized crop instead.
        flip: mirror left and right with probability 1/2.
        policies: names of `POLICIES` joined by +; one for all views, or one per view.
        crop_min_area: smallest share of the image that a random resized crop keeps (its sides have a ratio of 3/4 to
            4/3).
        randaugment_ops: operations on each image.
        randaugment_magnitude: their strength, 0 to 30.
        cutout_size: side of cutout's square in pixels; None: half the image's side.
        mix_alpha: λ of mixup and cutmix is drawn from Beta(α, α); None: 0.2 for mixup, 1 for cutmix.

    Raises:
        UserError: a name is unknown, names exclude each other, labels are mixed in some views only, or a number is
            outside its range.
    """

    crop_padding: int
    flip: bool
    policies: tuple[str, ...] = ("standard",)
    crop_min_area: float = 0.08
    randaugment_ops: int = 2
    randaugment_magnitude: int = 9
    cutout_size: int | None = None
    mix_alpha: float | None = None

    def __post_init__(self) -> None:
        alpha = self.mix_alpha
        rules: list[tuple[str, object, bool, str]] = [
            ("crop_padding", self.crop_padding, self.crop_padding >= 0, "0 or more pixels"),
            ("crop_min_area", self.crop_min_area, 0 < self.crop_min_area <= 1, "a share above 0 and at most 1"),
            ("randaugment_ops", self.randaugment_ops, self.randaugment_ops >= 1, "at least 1 operation"),
            ("randaugment_magnitude", self.randaugment_magnitude, 0 <= self.randaugment_magnitude <= 30, "0 to 30"),
            ("cutout_size", self.cutout_size, self.cutout_size is None or self.cutout_size >= 1, "at least 1 pixel"),
            ("mix_alpha", alpha, alpha is None or 0 < alpha < math.inf, "a finite number above 0"),
        ]
        for name, value, holds, rule in rules:
            if not holds:
                raise UserError(f"{name} {value}: give {rule}.")
        if isinstance(self.policies, str) or not all(isinstance(policy, str) for policy in self.policies):
            raise UserError(f"policies {self.policies!r}: give a tuple of names, one for all views or one per view.")
        if not self.policies:
            raise UserError(f"no augmentation policy: give one of {', '.join(POLICIES)}.")
        for policy in self.policies:
            _check_names(policy)
        mixes = {self._mix_of(names) for names in self._names()}
        if len(mixes) > 1:
            raise UserError(
                f"policies {', '.join(self.policies)}: mixup and cutmix change the labels, which all students share; "
                "name the same one in every policy, or in none."
            )

    @property
    def mix(self) -> str | None:
        """ "mixup", "cutmix" or None; the same for all views."""
        return self._mix_of(self._names()[0])

    @property
    def distorts(self) -> bool:
        """Whether at least one view gets more than crop and flip."""
        return any(self.names(view) for view in range(len(self.policies)))

    def check_views(self, views: int) -> None:
        """Raise UserError if there is more than one policy, but not one per view."""
        if len(self.policies) not in (1, views):
            raise UserError(
                f"{len(self.policies)} augmentation policies for {views} views: give one for all, or one per view."
            )

    def names(self, view: int) -> frozenset[str]:
        """What the view gets in addition to crop and flip."""
        every = self._names()
        return every[view if len(every) > 1 else 0] - {"standard", "mixup", "cutmix"}

    def _names(self) -> list[frozenset[str]]:
        return [frozenset(policy.split("+")) for policy in self.policies]

    @staticmethod
    def _mix_of(names: frozenset[str]) -> str | None:
        return next((name for name in ("mixup", "cutmix") if name in names), None)


def _check_names(policy: str) -> None:
    names = policy.split("+")
    for name in names:
        if name not in POLICIES:
            raise unknown("augmentation policy", name, POLICIES)
    for first, second in _EITHER:
        if first in names and second in names:
            raise UserError(f"policy {policy!r}: {first} and {second} exclude each other; name one of them.")
