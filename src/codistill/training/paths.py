"""Relative paths in a run's settings, made absolute, so that the run can be opened again from any folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from codistill import models
from codistill.config import Config

__all__ = ["with_absolute_paths"]


def with_absolute_paths(config: Config) -> Config:
    """Return the configuration with absolute paths of data, starts, teachers and the user's own files.

    A name that is no path of something that exists stays as it is.
    """
    folders = {name: getattr(config, name) for name in ("data_dir", "validation_dir")}
    changed = {name: folder.expanduser().absolute() for name, folder in folders.items() if folder is not None}
    return dataclasses.replace(
        config,
        **changed,
        data=_data(config.data),
        method=_file(config.method),
        model=tuple(map(_file, config.model)),
        init=tuple(_start(name) for name in config.init),
        teachers=tuple(map(_teacher, config.teachers)),
        optim=dataclasses.replace(config.optim, name=_file(config.optim.name)),
    )


def _file(name: str) -> str:
    """The form path/to/file.py:Name."""
    path, colon, rest = name.rpartition(":")
    return f"{_path(path)}:{rest}" if colon and path.endswith(".py") else name


def _data(name: str) -> str:
    kind, colon, place = name.partition(":")
    return f"{kind}:{_path(place)}" if colon else name


def _start(name: str) -> str:
    return name if name in (models.RANDOM, models.PRETRAINED) else _path(name)


def _teacher(name: str) -> str:
    """The forms PATH, NETWORK@WEIGHTS and path/to/file.py:function."""
    network, at, weights = name.rpartition("@")
    if at and not Path(name).expanduser().exists():
        return f"{_file(network)}@{_path(weights)}"
    return _file(_path(name))


def _path(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name
