"""The many options of `train` in groups for its help, with plain names for what an option takes.

tyro makes one box of help per nested dataclass, and settings are one flat dataclass. So the command line is parsed into
dataclasses made here, one per group, and flattened again.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import OmitArgPrefixes, arg

from codistill.config import Config
from codistill.meaning import MEANINGS

__all__ = ["flattened", "grouped"]

T = TypeVar("T", bound=Config)

GROUPS = {
    "method": "Who learns from whom.",
    "network": "What is trained, and from which weights.",
    "data": "Which images, and how they are read.",
    "optimisation": "How long, in which steps, and what counts. More below, as --optim.",
    "speed": "Where the run computes and how fast. What changes no result, or only its rounding, says so.",
    "output": "Where the results go.",
}
"""Group -> what its box of help says first."""

OF_CLASS = {
    "Experiment": "optimisation", "LearningOptions": "optimisation", "DataOptions": "data",
    "ExecutionOptions": "speed", "SavingOptions": "output", "Config": "output",
}  # fmt: skip
"""Class that defines a setting -> its group, if MOVED has no other."""

MOVED = {
    **dict.fromkeys(("method", "peers", "group", "split", "icl", "teachers"), "method"),
    **dict.fromkeys(
        ("model", "classifier", "features", "initialisation", "init", "freeze", "freeze_epochs"), "network"
    ),
    **dict.fromkeys(("normalise", "sampler", "class_weights"), "data"),
    **dict.fromkeys(("workers", "worker_timeout"), "speed"),
    "recipe": "optimisation",
}

EFFECT = {"nothing": " Changes no result.", "rounding": " Changes results by rounding only."}
assert EFFECT.keys() <= set(MEANINGS)

PLACEHOLDERS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH", bool: "True|False"}


def grouped(default: Any, own: str, about: str = "") -> Any:
    """Return the settings of a command as an object of nested dataclasses, whose type tyro parses.

    Args:
        default: a command: an instance of a subclass of `Config`.
        own: name of the group of the options that the command adds.
        about: what the box of that group says first, if it is none of the usual groups.
    """
    command = type(default)
    members: dict[str, list[tuple[Any, ...]]] = {} if own in GROUPS else {own: []}
    nested: list[tuple[Any, ...]] = []
    texts = GROUPS | ({own: about} if own not in GROUPS else {})
    members |= {group: [] for group in GROUPS}
    # What a class brings to its group comes before what others add to it.
    for field in sorted(dataclasses.fields(command), key=lambda field: field.name in MOVED):
        value = getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            nested.append((field.name, *_made(field.name, _fields(value), _first_paragraph(type(value)))))
        else:
            group = MOVED.get(field.name) or OF_CLASS.get(_owner(command, field.name).__name__, own)
            members[group].append(_field(default, field))
    # In a command such as compare, another group may stay empty.
    boxes = [(name, *_made(name, fields, texts[name], flat=True)) for name, fields in members.items() if fields]
    whole = dataclasses.make_dataclass(
        command.__name__, [*boxes, *nested], frozen=True, namespace={"__doc__": inspect.getdoc(command)}
    )
    return whole()


def flattened(command: type[T], parsed: Any) -> T:
    """Return what was parsed as the command itself."""
    values: dict[str, Any] = {}
    makers = {field.name: field.default_factory for field in dataclasses.fields(command)}
    for box in dataclasses.fields(parsed):
        held = getattr(parsed, box.name)
        inside = {f.name: getattr(held, f.name) for f in dataclasses.fields(held)}
        kind: Any = makers.get(box.name)
        if dataclasses.is_dataclass(kind):
            inside = {box.name: dataclasses.replace(getattr(command(), box.name), **inside)}
        values |= inside
    return command(**values)


def _made(name: str, fields: list[tuple[Any, ...]], text: str, flat: bool = False) -> tuple[Any, Any]:
    """Return the annotation and the field of a nested dataclass; `flat`: its options do not begin with its name."""
    made: Any = dataclasses.make_dataclass(name.title(), fields, frozen=True, namespace={"__doc__": text})
    return OmitArgPrefixes[made] if flat else made, dataclasses.field(default_factory=made)


def _first_paragraph(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _fields(value: Any) -> list[tuple[Any, ...]]:
    return [_field(value, field) for field in dataclasses.fields(value)]


def _field(value: Any, field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    kind, default = _hints(type(value))[field.name], getattr(value, field.name)
    text = _texts(type(value)).get(field.name, "")
    # A recipe's name changes nothing, and its settings do; so do the images behind a link.
    effect = "" if field.name in ("recipe", "follow_links") else EFFECT.get(field.metadata.get("changes", ""), "")
    if effect and effect.strip() not in text:
        text += effect
    shown: dict[str, Any] = {"help": text}
    if placeholder := _placeholder(kind):
        shown["metavar"] = placeholder
    if default is None or default == ():
        shown["help_behavior_hint"] = ""
    make = functools.partial(lambda held: held, default)
    return field.name, Annotated[kind, arg(**shown)], dataclasses.field(default_factory=make)


def _placeholder(kind: Any) -> str:
    """Return the name of what an option takes; nothing where tyro's own name says it (choices and flags)."""
    if typing.get_origin(kind) is Annotated:
        return ""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [part for part in typing.get_args(kind) if part is not type(None)]
        names = [_placeholder(part) or _choices(part) for part in kinds]
        return "|".join(names)
    if typing.get_origin(kind) is tuple:
        return f"{_choices(typing.get_args(kind)[0])} ..."
    return "" if kind is bool else PLACEHOLDERS.get(kind, "")


def _choices(kind: Any) -> str:
    return "|".join(map(str, typing.get_args(kind))) or PLACEHOLDERS.get(kind, "VALUE")


def _owner(command: type, name: str) -> type:
    return next(one for one in command.__mro__ if name in inspect.get_annotations(one))


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _texts(kind: type) -> Mapping[str, str]:
    """Return the text after each field of a dataclass, on one line."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        if dataclasses.is_dataclass(one):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            assert isinstance(tree, ast.ClassDef)
            texts |= dict(filter(None, map(_text, tree.body, tree.body[1:])))
    return texts


def _text(statement: ast.stmt, after: ast.stmt) -> tuple[str, str] | None:
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        return None
    if not isinstance(after, ast.Expr) or not isinstance(after.value, ast.Constant):
        return None
    return statement.target.id, " ".join(str(after.value.value).split())
