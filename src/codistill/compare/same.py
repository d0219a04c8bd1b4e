"""Whether two variants would train the same, whatever they are called and however their settings were given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from codistill import methods
from codistill.compare.tuning import Candidate
from codistill.compare.variants import Variant
from codistill.config import Config
from codistill.errors import UserError
from codistill.training.session import Session

__all__ = ["refuse_same", "settings_used"]


def settings_used(session: Session) -> Config:
    """Return the settings of a variant that was built, as they are used, without label and folder."""
    config = session.config
    # Of branches and trees, whose first split has a default.
    splits = getattr(session.executor.group, "splits", None)
    # One policy stands for all students.
    policies = config.augment.policies * (session.shape.peers // len(config.augment.policies))
    return dataclasses.replace(
        config,
        label=None,
        out=None,
        method_options=_options(session),
        split=splits and repr(splits),
        augment=dataclasses.replace(config.augment, policies=policies),
    )


def refuse_same(variants: Sequence[Variant], settings: Sequence[Config], points: Sequence[Candidate]) -> None:
    """Refuse two variants that would train the same; what tuning leaves open may tell them apart.

    Args:
        variants: what was built.
        settings: of each, as `settings_used` returns them.
        points: the grid of tuning.

    Raises:
        UserError: two have the same settings and the same points of the grid.
    """
    seen: list[tuple[str, Config, list[Mapping[str, float]]]] = []
    for variant, config in zip(variants, settings, strict=True):
        grid = [point.options for point in points if point.variant.name == variant.name]
        same = next((name for name, *others in seen if others == [config, grid]), None)
        if same is not None:
            raise UserError(
                f"methods {same!r} and {variant.name!r} have the same settings, so one variant is named twice: name "
                "each variant once."
            )
        seen.append((variant.name, config, grid))


def _options(session: Session) -> dict[str, Any]:
    """Return the method's options with their defaults, as the method uses them where it says so."""
    name, given, method = session.config.method, session.config.method_options, session.executor.method
    options = {**methods.options(name), **methods.check_options(name, given), **method.used_options}
    for option, value in options.items():
        kept = getattr(method, option, None)
        if value is None and isinstance(kept, int | float | str):
            options[option] = kept
    return options
