"""Settings that were given and that this run never reads: better said than left to be found out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from operator import attrgetter

from codistill import execution
from codistill.config import Config, recipe_config
from codistill.data import Images, ImageSet
from codistill.data.drawn import DrawnImages

__all__ = ["warn_of_unread"]


def warn_of_unread(config: Config, train: Images | None = None) -> None:
    """Warn once of each setting that is neither the default nor the recipe's, and has no effect.

    Args:
        config: checked.
        train: the training images, if they are known.
    """
    usual = [Config(), *([] if config.recipe is None else [recipe_config(config.recipe)])]
    for path, why in _unread(config, train):
        value = attrgetter(path)
        given = value(config)
        if given != () and given not in map(value, usual):
            text = " ".join(map(str, given)) if isinstance(given, tuple) else given
            warnings.warn(f"{path} {text} has no effect: {why}", stacklevel=3)


def _unread(config: Config, train: Images | None) -> Iterator[tuple[str, str]]:
    """Every setting that nothing reads, with the reason."""
    if config.optim.schedule != "step":
        for name in ("milestones", "gamma"):
            yield f"optim.{name}", f"the schedule is {config.optim.schedule}, which has no steps"
    if isinstance(train, DrawnImages):
        yield "augment.crop_min_area", "the Dataset draws its images itself"
    elif isinstance(train, ImageSet):
        yield "augment.crop_min_area", "only images that are decoded in every step are cropped so (--data-memory)"
    # The choice of auto is stored in the run, so this may also be the executor of a run that is repeated.
    if "memory_limit" not in execution.find(config.executor).takes:
        yield "memory_limit", f"only the choice of auto reads it, and the executor is {config.executor}"
