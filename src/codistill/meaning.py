"""What a change of a setting means, said where the setting is defined.

Run identity, reports and studies derive from it which settings to compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MEANINGS", "names_of", "setting", "without"]

MEANINGS = ("nothing", "rounding", "seed", "experiment")
"""A change of the setting changes no number; rounding (and the draws of random layers); which run of one experiment it
is; or the experiment."""


def setting(
    default: Any = dataclasses.MISSING, changes: str = "experiment", make: Callable[[], Any] | None = None
) -> Any:
    """A dataclass field with this default (or a function that makes it), of which a change means `changes`."""
    assert changes in MEANINGS
    if make is not None:
        return dataclasses.field(default_factory=make, metadata={"changes": changes})
    return dataclasses.field(default=default, metadata={"changes": changes})


def names_of(config: type, *meanings: str, prefix: str = "") -> frozenset[str]:
    """The dotted names of the settings of a dataclass, nested ones included, of which a change means one of these."""
    found: set[str] = set()
    for field in dataclasses.fields(config):
        made = field.default_factory
        if isinstance(made, type) and dataclasses.is_dataclass(made):
            found |= names_of(made, *meanings, prefix=f"{prefix}{field.name}.")
        elif field.metadata["changes"] in meanings:
            found.add(prefix + field.name)
    return frozenset(found)


def without(settings: Mapping[str, Any], names: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """Nested settings without those of these dotted names."""
    kept = {}
    for key, value in settings.items():
        if prefix + key not in names:
            kept[key] = without(value, names, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept
