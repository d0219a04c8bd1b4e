"""The only reader of YAML: plain data of a limited size.

A file of a kilobyte can stand for gigabytes: an alias repeats what an anchor names, and aliases may be inside. So the
size is counted with the aliases written out, from PyYAML's events, before anything is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codistill.errors import one_line

__all__ = ["MOST_BYTES", "MOST_DEPTH", "MOST_NODES", "YamlError", "parse_yaml", "read_yaml"]

MOST_BYTES = 2**20
"""Of a file."""
MOST_NODES = 10_000
"""Values, keys and collections, with aliases written out. The settings of a run are about 150."""
MOST_DEPTH = 50
"""Of lists and mappings in each other."""
MOST_LETTERS = 3_000
"""Of one value: a number of more digits takes long to read, and Python refuses to print it."""


class YamlError(ValueError):
    """Why a text is not read as YAML, in a few words."""


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, as plain data; YamlError for anything else, or for too much of it."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise YamlError(f"it has more than {MOST_BYTES:,} bytes, and settings never do")
    try:
        return parse_yaml(content.decode())
    except UnicodeDecodeError as error:
        raise YamlError(one_line(error)) from error


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds, as plain data; YamlError for anything else, or for too much of it."""
    if len(text) > MOST_BYTES:
        raise YamlError(f"it has more than {MOST_BYTES:,} letters, and settings never do")
    try:
        _refuse_too_much(yaml.parse(text, yaml.SafeLoader))
        return yaml.load(text, _Loader)
    except YamlError:
        raise
    except yaml.YAMLError as error:
        raise YamlError(one_line(error)) from error
    except Exception as error:  # PyYAML's constructors raise errors of many types, as for the date 2001-99-99.
        raise YamlError(f"a value cannot be read ({type(error).__name__}: {one_line(error)})") from error


class _Loader(yaml.SafeLoader):
    """Plain data, where no key of a mapping stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise YamlError(f"{twice!r} stands twice in line {node.start_mark.line + 1} or below")
        return super().construct_mapping(node, deep)


@dataclass
class _Size:
    """Nodes of a collection, with all aliases written out, and how deep it is."""

    anchor: str | None
    nodes: int = 1
    depth: int = 1


def _refuse_too_much(events: Iterator[yaml.Event]) -> None:
    known: dict[str, _Size] = {}
    open_: list[_Size] = [_Size(None, 0, 0)]
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(_Size(event.anchor))
            done = None
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_LETTERS:
                raise YamlError(f"a value has {len(event.value):,} letters, and at most {MOST_LETTERS:,} are read")
            done = _Size(event.anchor, 1, 0)
        elif isinstance(event, yaml.AliasEvent):
            done = _named(event.anchor, known, open_)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = open_.pop()
        else:
            continue
        if done is not None:
            if done.anchor is not None:
                known[done.anchor] = done
            open_[-1].nodes += done.nodes
            open_[-1].depth = max(open_[-1].depth, done.depth + 1)
        if len(open_) + open_[-1].depth > MOST_DEPTH:
            raise YamlError(f"it is nested more than {MOST_DEPTH} deep")
        if sum(size.nodes for size in open_) > MOST_NODES:
            raise YamlError(f"it has more than {MOST_NODES:,} values, with aliases written out")


def _named(anchor: str | None, known: dict[str, _Size], open_: list[_Size]) -> _Size | None:
    """The size of what an alias stands for; None if PyYAML refuses it, because nothing has that name."""
    if any(size.anchor == anchor for size in open_):
        raise YamlError(f"the alias *{anchor} is inside what it stands for")
    size = known.get(anchor or "")
    return None if size is None else _Size(None, size.nodes, size.depth)
