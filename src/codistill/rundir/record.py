"""JSON records as frozen dataclasses: the fields of a class are the schema, and one rule reads and writes them all.

An entry of the JSON record has the name of its field. A field with a default may be absent, as it is in files of
older versions; entries without a field are ignored, so that a later version can add some. JSON lists are tuples.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

__all__ = ["Record", "RecordError", "frozen"]

R = TypeVar("R", bound="Record")
MOST_DEPTH = 50
"""Of lists and records in each other, where a field takes any."""

Reader = Callable[[Any], Any]


class RecordError(ValueError):
    """What is wrong in a record, and the names that lead to it: "last.test.ensemble is missing"."""

    def __init__(self, why: str, *path: str) -> None:
        super().__init__(why, *path)
        self.why, self.path = why, path

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {self.why}" if self.path else self.why

    def below(self, name: str) -> RecordError:
        """Return the same fault as seen from the record around this one."""
        return RecordError(self.why, name, *self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Base of all records. A subclass is a frozen dataclass whose `__post_init__` may check its values.

    Attributes:
        SEALED: whether its file holds a checksum of itself, which is compared when it is read.
    """

    SEALED: ClassVar[bool] = False

    @classmethod
    def from_json(cls: type[R], record: Any) -> R:
        """Return the record that `to_json` wrote; RecordError for anything else."""
        if not isinstance(record, Mapping):
            raise RecordError(f"is {_shown(record)}, not a record")
        values: dict[str, Any] = {}
        for name, read, required in _schema(cls):
            if name in record:
                values[name] = _below(name, read, record[name])
            elif required:
                raise RecordError("is missing", name)
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data for `json.dumps`, in the order of its fields."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


@functools.cache
def _schema(cls: type[Record]) -> list[tuple[str, Reader, bool]]:
    """Name, reader and whether it is required, of each field."""
    hints = typing.get_type_hints(cls)
    none = dataclasses.MISSING
    return [
        (field.name, _reader(hints[field.name]), field.default is none and field.default_factory is none)
        for field in dataclasses.fields(cls)
    ]


def _reader(hint: Any) -> Reader:
    """Return the function that turns JSON into a value of the type `hint`."""
    plain: dict[Any, Reader] = {float: _number, int: _whole, str: _text, bool: _flag, Any: frozen}
    if hint in plain:
        return plain[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (kind,) = (argument for argument in arguments if argument is not type(None))
        present = _reader(kind)
        return lambda value: None if value is None else present(value)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value: tuple(_below(str(i), item, each) for i, each in enumerate(_of(value, list, "a list")))
    if origin is Mapping:
        item = _reader(arguments[1])
        return lambda value: {name: _below(name, item, each) for name, each in _of(value, dict, "a record").items()}
    assert issubclass(hint, Record), f"no rule for fields of type {hint}"
    return hint.from_json


def _below(name: str, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except RecordError as fault:
        raise fault.below(name) from None


def _of(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise RecordError(f"is {_shown(value)}, not {name}")
    return value


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = "nested too deeply"
    return text if len(text) <= 40 else f"{text[:39]}…"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f"is {_shown(value)}, not a number")
    try:
        return float(value)
    except OverflowError as error:  # A whole number may have any number of digits.
        raise RecordError(f"is {_shown(value)}, which is too large") from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise RecordError(f"is {_shown(value)}, not a whole number")
    return int(value)


def _text(value: Any) -> str:
    return _of(value, str, "a text")


def _flag(value: Any) -> bool:
    return _of(value, bool, "true or false")


def frozen(value: Any, depth: int = 0) -> Any:
    """Return JSON data with lists as tuples; RecordError if they are nested without end."""
    if depth > MOST_DEPTH:
        raise RecordError(f"is nested more than {MOST_DEPTH} deep")
    if isinstance(value, list):
        return tuple(frozen(item, depth + 1) for item in value)
    return {name: frozen(item, depth + 1) for name, item in value.items()} if isinstance(value, dict) else value
