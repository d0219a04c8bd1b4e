"""A run's settings as flat names and texts, and which of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from codistill.reports.run import Run

__all__ = ["differing", "flatten", "settings_of"]

# These tell runs of one variant apart, and say nothing about the variant.
OF_THE_RUN = frozenset({"seed", "out", "label", "overwrite", "version", "kind"})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return every setting under its dotted name, `optim.lr`, with its value as text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return flat


def settings_of(run: Run) -> dict[str, str]:
    """Return the flat settings that make the variant: all but the seed, the output directory and the label."""
    return {name: text for name, text in flatten(run.config).items() if name.rsplit(".", 1)[-1] not in OF_THE_RUN}


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names, in the order of their first appearance, that do not have one value in all of `settings`."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({one.get(name) for one in settings}) > 1]
