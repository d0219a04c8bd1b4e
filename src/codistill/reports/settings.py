"""A run's settings as flat names and texts, which of them make the experiment, and which differ between runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codistill.reports.run import Run

__all__ = [
    "HOW_IT_RUNS",
    "METHOD_OPTIONS",
    "NO_EXPERIMENT",
    "differing",
    "experiment_of",
    "flatten",
    "ground_of",
    "images_of",
    "settings_of",
    "telling",
]

HOW_IT_RUNS = ("device", "executor", "deterministic", "compile", "channels_last")
"""Settings that change a run's numbers by no more than rounding (and random layers' draws)."""

NO_EXPERIMENT = ("seed", "out", "label", "threads", "workers", "download", "memory_limit", *HOW_IT_RUNS)
"""Where and how fast a run goes, and what it is called, do not make another experiment of it."""

# These tell runs of one variant apart, and say nothing about the variant.
OF_THE_RUN = frozenset({"seed", "out", "label", "overwrite", "version", "kind"})
METHOD_OPTIONS = "method_options."
# What a network sees of a data set, and for how long.
GROUND = ("image_size", "train_subset", "validation", "epochs")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return every setting under its dotted name, `optim.lr`, with its value as text; 2.0 is 2."""
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
    """Return the flat settings that make the variant: all but the seed, the output directory and the label."""
    return {name: text for name, text in flatten(run.config).items() if name not in OF_THE_RUN}


def experiment_of(run: Run) -> dict[str, str]:
    """Return the flat settings in which the seeds of one row must agree; a teacher's own seed is none of them."""
    # Where the images lie is no setting of its own: the runs of a table have the same ones.
    settings = {name: text for name, text in settings_of(run).items() if name not in (*NO_EXPERIMENT, "data_dir")}
    if "teachers" in settings:
        settings["teachers"] = re.sub(r"seed[-_]?\d+", "seed", settings["teachers"])
    return settings


def images_of(run: Run) -> dict[str, str]:
    """Return what tells data sets of one name apart: how many images there are, and their labels.

    Of a run that an older version wrote only the folder is known, and that by its own name: it may have moved.
    """
    if run.images:
        return dict(run.images)
    return {name: Path(text).name for name, text in settings_of(run).items() if name == "data_dir"}


def ground_of(run: Run) -> dict[str, str]:
    """Return on how much data and how long a run went: a baseline shares it with what is compared with it."""
    return {name: text for name, text in settings_of(run).items() if name in GROUND}


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names, in the order of their first appearance, that do not have one value in all of `settings`."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({one.get(name) for one in settings}) > 1]


def telling(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names that tell some of `settings` apart.

    Of those in `differing`, an option of the method that is left out is at its default; any other setting that is left
    out is unknown to the version that wrote the run, and tells nothing.
    """
    return [
        name for name in differing(settings) if name.startswith(METHOD_OPTIONS) or all(name in one for one in settings)
    ]
