"""A run's settings as flat names and texts: which make the experiment, and which differ between runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codistill.config import REPEATS, Config
from codistill.meaning import names_of
from codistill.rundir import Run

__all__ = [
    "METHOD_OPTIONS",
    "SAME_EXPERIMENT",
    "baseline_conditions",
    "differing",
    "distinguishing_settings",
    "experiment_of",
    "flatten",
    "images_of",
    "settings_of",
]

SAME_EXPERIMENT = REPEATS
"""Settings in which two runs of one experiment may differ."""

NAMES_RUN = names_of(Config, "seed") | {"out", "label"}
"""Settings that say which run of an experiment it is, and nothing about how it was run."""

METHOD_OPTIONS = "method_options."

OPEN = (METHOD_OPTIONS, "optim.options.")
"""Settings that are absent where they have their default."""

BASELINE_CONDITIONS = ("image_size", "train_subset", "validation", "epochs")
"""Settings that say what a network sees of a data set, and for how long."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return every setting under its dotted name, such as `optim.lr`, with its value as text; 2.0 is written as 2."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            flat[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return flat


def settings_of(run: Run) -> dict[str, str]:
    """Return the flat settings of the variant, without the seed, the run directory and the label."""
    return {name: text for name, text in flatten(run.config).items() if name not in {*NAMES_RUN, "version"}}


def experiment_of(run: Run) -> dict[str, str]:
    """Return the flat settings in which the seeds of one row must agree; the seed in a teacher's path is ignored."""
    settings = {name: text for name, text in settings_of(run).items() if name not in SAME_EXPERIMENT}
    if "teachers" in settings:
        settings["teachers"] = re.sub(r"seed[-_]?\d+", "seed", settings["teachers"])
    return settings


def images_of(run: Run) -> dict[str, str]:
    """Return what distinguishes data sets of one name: the number of images, and their labels.

    Runs of older versions did not record these. Then it is the folder's own name, since the folder may have moved.
    """
    if run.input is not None and run.input.data is not None:
        data = run.input.data
        return {
            "classes": str(len(run.input.classes)),
            "images": f"{data.training_images} + {data.test_images}",
            "labels": data.labels_sha256[:8],
        }
    return {name: Path(text).name for name, text in flatten(run.config).items() if name == "data_dir"}


def baseline_conditions(run: Run) -> dict[str, str]:
    """Return how much data a run saw, and for how long: a baseline must have the same as the row next to it."""
    return {name: text for name, text in settings_of(run).items() if name in BASELINE_CONDITIONS}


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names, in the order of their first appearance, that do not have one value in all of `settings`."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({one.get(name) for one in settings}) > 1]


def distinguishing_settings(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names in `differing` that make separate experiments.

    An option of the method that is absent has its default value. Any other setting that is absent was not known to
    the version that wrote the run, and is ignored.
    """
    return [name for name in differing(settings) if name.startswith(OPEN) or all(name in one for one in settings)]
