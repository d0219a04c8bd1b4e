"""How pictures are prepared for a run's networks: recorded, or for a run of an older version derived."""

from __future__ import annotations

import warnings
from pathlib import Path

from codistill.config import Config
from codistill.data import SOURCES
from codistill.data.gather import LARGE, stays_out
from codistill.data.lazy import shorter_side_of
from codistill.errors import UserError
from codistill.rundir import INPUT, InputRecord, Preparation

__all__ = ["preparation_of"]


def preparation_of(run_dir: Path, config: Config, facts: InputRecord) -> Preparation:
    """Return how pictures become what the run's networks read; a warning says so where it is derived.

    Raises:
        UserError: an older version of codistill wrote the run, and its settings do not settle it.
    """
    if facts.preparation is not None:
        return facts.preparation
    resize = _resize(config, facts)
    if resize is None:
        raise UserError(
            f"{run_dir / INPUT} does not say how pictures are prepared, since an older codistill wrote it, and the "
            f"settings of the run (data {config.data}) do not settle it: add the entry preparation to that file "
            "(docs/predict.md), or train again."
        )
    warnings.warn(
        f"{run_dir / INPUT} is of an older codistill and does not say how pictures are prepared: by the settings of "
        f'the run it is resize "{resize}"',
        stacklevel=2,
    )
    return Preparation(
        channels=facts.channels,
        resize=resize,
        height=facts.height,
        width=facts.width,
        shorter_side=shorter_side_of(facts.height) if resize == "shorter_side" else None,
        mean=facts.mean,
        std=facts.std,
    )


def _resize(config: Config, facts: InputRecord) -> str | None:
    """The rule by which the run read its pictures; None where that cannot be said."""
    kind = config.data.partition(":")[0]
    size = facts.height, facts.width
    if kind not in SOURCES:
        return None
    if kind == "imagenet":
        return "shorter_side"
    if SOURCES[kind].classes is not None:
        return "squash"
    if facts.data is None and max(size) < LARGE:
        return None
    images = 0 if facts.data is None else facts.data.training_images + facts.data.test_images
    images += 0 if facts.images is None else sum(facts.images.skipped.values())
    taken = images * facts.channels * facts.height * facts.width
    return "shorter_side" if stays_out(taken, size, int(config.data_memory * 2**30)) else "cover"
