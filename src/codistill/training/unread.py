"""Settings that were given and that this run never reads: better said than left to be found out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from codistill import execution
from codistill.config import Config, recipe_config

__all__ = ["warn_of_unread"]


def warn_of_unread(config: Config, decoded: bool | None = None) -> None:
    """Warn once of each setting that differs from the default, or the recipe's, and has no effect.

    Args:
        config: checked.
        decoded: whether the images are decoded again in every step; None if that is not known yet.
    """
    usual = Config() if config.recipe is None else recipe_config(config.recipe)
    for path, why in _unread(config, decoded):
        given, default = _at(config, path), _at(usual, path)
        if given != default:
            text = " ".join(map(str, given)) if isinstance(given, tuple) else given
            warnings.warn(f"{path} {text} has no effect: {why}", stacklevel=3)


def _unread(config: Config, decoded: bool | None) -> Iterator[tuple[str, str]]:
    """Every setting that nothing reads, with the reason."""
    if config.optim.schedule != "step":
        for name in ("milestones", "gamma"):
            yield f"optim.{name}", f"the schedule is {config.optim.schedule}, which has no steps"
    named = {name for policy in config.augment.policies for name in policy.split("+")}
    if "randaugment" not in named:
        for name in ("ops", "magnitude"):
            yield f"augment.randaugment_{name}", "no policy names randaugment"
    if decoded is False:
        yield "augment.crop_min_area", "images in memory are padded and cropped (augment.crop_padding)"
    if "memory_limit" not in execution.find(config.executor).takes:
        yield "memory_limit", f"the executor {config.executor!r} does not choose by memory, only auto does"


def _at(config: Config, path: str) -> object:
    value: object = config
    for name in path.split("."):
        value = getattr(value, name)
    return value
