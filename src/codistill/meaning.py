"""What a change of a setting means. Each setting says so itself, in the metadata of its field.

A run's identity, reports and studies derive from it which settings to compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MEANINGS", "names_of", "setting", "without"]

MEANINGS = ("nothing", "rounding", "seed", "experiment")
"""A change of the setting changes: no number; rounding only (and the draws of random layers); which run of an
experiment it is; or the experiment."""


def setting(
    default: Any = dataclasses.MISSING, changes: str = "experiment", make: Callable[[], Any] | None = None
) -> Any:
    """Return a dataclass field with a default (or a function that makes it); a change of it means `changes`."""
    assert changes in MEANINGS
    if make is not None:
        return dataclasses.field(default_factory=make, metadata={"changes": changes})
    return dataclasses.field(default=default, metadata={"changes": changes})


def names_of(config: type, *meanings: str, prefix: str = "") -> frozenset[str]:
    """Return the dotted names of a dataclass's settings, nested ones included, whose change means one of `meanings`."""
    found: set[str] = set()
    for field in dataclasses.fields(config):
        made = field.default_factory
        if isinstance(made, type) and dataclasses.is_dataclass(made):
            found |= names_of(made, *meanings, prefix=f"{prefix}{field.name}.")
        elif field.metadata["changes"] in meanings:
            found.add(prefix + field.name)
    return frozenset(found)


def without(settings: Mapping[str, Any], names: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """Return nested settings without those that have these dotted names."""
    kept = {}
    for key, value in settings.items():
        if prefix + key not in names:
            kept[key] = without(value, names, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept
