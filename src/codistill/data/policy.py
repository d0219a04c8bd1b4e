"""How training images are distorted: the settings, their check, and the named policies of each view."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TypeGuard

from codistill.errors import UserError, unknown
from codistill.meaning import setting

__all__ = ["POLICIES", "AugmentPolicy"]

POLICIES = ("standard", "randaugment", "trivialaugment", "cutout", "mixup", "cutmix")
"""standard: crop and flip only; all others add to it. Names are joined by +, such as randaugment+cutout."""

_EITHER = (("randaugment", "trivialaugment"), ("mixup", "cutmix"))


@dataclass(frozen=True)
class AugmentPolicy:
    """Random distortions of training images; if crop and flip are left out, each data set's own default applies.

    `AugmentPolicy(0, False)` does not change images in memory. Images that are not in memory get a random resized crop
    (sides of a ratio of 3/4 to 4/3) instead of the padded one.
    """

    crop_padding: int | None = setting(None)
    """Pixels of zero padding before a random crop of the original size (0: no crop)."""
    flip: bool | None = setting(None)
    """Horizontal flip with probability 1/2."""
    policies: tuple[str, ...] = setting(("standard",))
    """What is added to crop and flip: standard (nothing), randaugment, trivialaugment, cutout, mixup, cutmix, joined by
    + (randaugment+cutout); one for all students, or with icl one for each, separated by commas or spaces."""
    crop_min_area: float = setting(0.08)
    """Images that are not held in memory: smallest share of an image that a random resized crop keeps."""
    randaugment_ops: int = setting(2)
    """Operations of randaugment on each image."""
    randaugment_magnitude: int = setting(9)
    """Strength of randaugment's operations, 0 to 30."""
    cutout_size: int | None = setting(None)
    """Side of cutout's square in pixels; half the image's side if left out."""
    mix_alpha: float | None = setting(None)
    """The share in mixup and cutmix is drawn from Beta(alpha, alpha); 0.2 for mixup, 1 for cutmix if left out."""

    def __post_init__(self) -> None:
        given = (self.policies,) if isinstance(self.policies, str) else self.policies
        # A value of another type is left as it is, and refused by `check` or by whatever reads the settings.
        if _are_names(given):
            names = tuple(name.strip() for item in given for name in item.split(","))
            object.__setattr__(self, "policies", names)

    def resolved(self, crop_padding: int | None, flip: bool | None) -> AugmentPolicy:
        """Return the policy with a data set's crop and flip where its own are left out (none if both are)."""
        padding = crop_padding if self.crop_padding is None else self.crop_padding
        mirror = flip if self.flip is None else self.flip
        return dataclasses.replace(self, crop_padding=padding or 0, flip=bool(mirror))

    def check(self) -> None:
        """Raise UserError if a number is out of range, or the names are unknown or exclude each other."""
        alpha, padding = self.mix_alpha, self.crop_padding
        rules: list[tuple[str, object, bool, str]] = [
            ("crop_padding", padding, padding is None or padding >= 0, "0 or more pixels"),
            ("crop_min_area", self.crop_min_area, 0 < self.crop_min_area <= 1, "a share above 0 and at most 1"),
            ("randaugment_ops", self.randaugment_ops, self.randaugment_ops >= 1, "at least 1 operation"),
            ("randaugment_magnitude", self.randaugment_magnitude, 0 <= self.randaugment_magnitude <= 30, "0 to 30"),
            ("cutout_size", self.cutout_size, self.cutout_size is None or self.cutout_size >= 1, "at least 1 pixel"),
            ("mix_alpha", alpha, alpha is None or 0 < alpha < math.inf, "a finite number above 0"),
        ]
        for name, value, holds, rule in rules:
            if not holds:
                raise UserError(f"{name} {value}: give {rule}.")
        self._check_policies()
        named = frozenset[str]().union(*self._names())
        for name, value, users in (
            ("cutout_size", self.cutout_size, {"cutout"}),
            ("mix_alpha", alpha, {"mixup", "cutmix"}),
        ):
            if value is not None and not users & named:
                raise UserError(
                    f"{name} {value} without {' or '.join(sorted(users))}: name it in policies, or leave it out."
                )

    def _check_policies(self) -> None:
        if not _are_names(self.policies):
            raise UserError(f"policies {self.policies!r}: give names, one for all views or one per view.")
        if not self.policies:
            raise UserError(f"no augmentation policy: give one of {', '.join(POLICIES)}.")
        for policy in self.policies:
            _check_names(policy)
        if len({self._mix_of(names) for names in self._names()}) > 1:
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


def _are_names(policies: object) -> TypeGuard[tuple[str, ...]]:
    return isinstance(policies, tuple | list) and all(isinstance(name, str) for name in policies)
