"""Convert values from YAML, a command line or Python to the annotated type; refuse those that do not fit."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codistill.errors import UserError, unknown

__all__ = ["build_dataclass", "convert"]


def build_dataclass(cls: type, data: Mapping[str, Any], prefix: str = "") -> Any:
    """Return the dataclass `cls` with these values, and defaults for the rest.

    Raises:
        UserError: a name that is not a field (the message gives the nearest ones), or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    for name in data:
        if name not in hints:
            raise unknown("setting", prefix + str(name), [prefix + h for h in hints])
    return cls(**{name: convert(hints[name], value, prefix + name) for name, value in data.items()})


def convert(hint: Any, value: Any, name: str) -> Any:
    """Return `value` as the type `hint`; a hint that is neither plain data nor a class accepts any value.

    Args:
        hint: a resolved annotation.
        value: plain data, or a value of that type.
        name: name of the setting, for the error.

    Raises:
        UserError: the value has another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _first_of(arguments, value, name)
    if origin is typing.Literal:
        # YAML reads on and off as true and false.
        value = {True: "on", False: "off"}[value] if isinstance(value, bool) and "off" in arguments else value
        if isinstance(value, str | bool) and value in arguments:
            return value
        raise unknown(f"value of {name}", str(value), [str(a) for a in arguments])
    if origin is tuple:
        value = value.tolist() if hasattr(value, "tolist") else value  # of numpy and torch
        items = value if isinstance(value, list | tuple) else [value]
        of_one_kind = arguments[-1] is Ellipsis
        if of_one_kind or len(items) == len(arguments):
            kinds = arguments[:1] * len(items) if of_one_kind else arguments
            return tuple(convert(kind, item, name) for kind, item in zip(kinds, items, strict=True))
    elif origin in (list, Sequence):
        if isinstance(value, list | tuple):
            return [convert(arguments[0], item, name) for item in value]
    elif origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is Any or origin is not None or not isinstance(hint, type):
        return value
    elif dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return build_dataclass(hint, value, f"{name}.")
    elif (made := _plain(hint, value)) is not None:
        return made
    if dataclasses.is_dataclass(hint):
        raise UserError(
            f"{name}={value!r}: it has settings of its own, such as {name}.{dataclasses.fields(hint)[0].name}."
        )
    kind = getattr(hint, "__name__", str(hint))
    if hint is str and isinstance(value, bool):
        raise UserError(
            f"{name}={value!r}: it takes text; YAML reads yes, no, on and off as true or false, so quote it."
        )
    raise UserError(f"{name}={value!r}: it takes a value of type {kind}.")


def _first_of(hints: Sequence[Any], value: Any, name: str) -> Any:
    others = [hint for hint in hints if hint is not type(None)]
    if value is None and len(others) < len(hints):
        return None
    for hint in others[:-1]:
        try:
            return convert(hint, value, name)
        except UserError:
            pass
    return convert(others[-1], value, name)


def _plain(hint: type, value: Any) -> Any:
    """Return the value as a `hint`, or None if it does not fit."""
    # True is an int in Python, but nobody who writes a setting means it as one.
    truth = isinstance(value, bool | np.bool_)
    if hint is Path or hint is str:
        return hint(value) if isinstance(value, str | Path) else None
    if hint is int:
        whole = isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer())
        return int(value) if whole and not truth else None
    if hint is bool:
        return bool(value) if truth else None
    if hint is tuple or hint is list:
        return hint(value) if isinstance(value, list | tuple) else None
    if hint is float:
        # YAML reads 1e-4 (without a dot) as text.
        try:
            return float(value) if isinstance(value, numbers.Real | str) and not truth else None
        except (ValueError, OverflowError):
            return None
    return value if isinstance(value, hint) else None
