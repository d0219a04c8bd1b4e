"""Configurations as YAML, and single settings by dotted name; unknown names and wrong types are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from codistill.config.naming import default_label
from codistill.config.recipes import merged
from codistill.config.settings import NOTHING, Config
from codistill.convert import build_dataclass
from codistill.errors import UserError, unknown
from codistill.meaning import without
from codistill.rundir import FORMAT, YamlError, parse_yaml, read_yaml, write_whole
from codistill.trusted import found_in_file

__all__ = [
    "apply_settings",
    "code_names",
    "config_digest",
    "config_from_dict",
    "config_to_dict",
    "identity",
    "read_config",
    "write_config",
]

OPEN = (("method_options",), ("optim", "options"))
"""Settings that take keywords of somebody else's."""


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return plain data (strings for paths, lists for tuples), ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return value.item() if isinstance(value, np.generic) else value

    return plain(config)


def config_from_dict(data: Mapping[str, Any]) -> Config:
    """Return the configuration with these settings and defaults for the rest.

    Raises:
        UserError: a name that is no setting (with the nearest ones), or a value of the wrong type.
    """
    if data.get("executor") == "processes":
        # Of older runs. It equalled the loop to rounding.
        data = {**data, "executor": "loop"}
    return build_dataclass(Config, data)


def code_names(config: Config) -> tuple[str, ...]:
    """Return the settings that may name code, as path/to/file.py:Name; from Python, they may still hold anything."""
    several = (config.model, config.teachers, config.init)
    values = [config.method, config.optim.name, *(v for one in several if isinstance(one, list | tuple) for v in one)]
    return tuple(value for value in values if isinstance(value, str))


def config_digest(config: Config) -> str:
    """Return the SHA-256 of `identity`."""
    return hashlib.sha256(identity(config).encode()).hexdigest()


def identity(config: Config) -> str:
    """Return all settings as JSON in a fixed order, without those that change no number (codistill/meaning.py).

    Where the data are stored is one of these: `refuse_other_data` checks that they are the same.
    """
    return json.dumps(without(config_to_dict(config), NOTHING), sort_keys=True)


def write_config(config: Config, path: Path) -> None:
    """Write config.yaml, whole or not at all."""
    text = yaml.safe_dump({"version": FORMAT, **config_to_dict(config)}, sort_keys=False, allow_unicode=True)
    write_whole(path, text)


def read_config(path: Path | str, recipe: str | None = None) -> Config:
    """Read a configuration file.

    A label that was made from the settings is left out, so that it follows them if they are changed. The settings of
    `recipe`, or of the recipe that the file names, stand for those that the file lacks.

    Raises:
        UserError: the file is missing, is not YAML, is of a newer version or holds a wrong setting.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the path of a configuration, such as {path / 'config.yaml'}.")
    if path.parent.is_file():
        raise UserError(f"{path.parent} is a file: give the run directory, {path.parent.parent}.")
    if not path.is_file():
        raise UserError(f"no configuration at {path}: give a run directory, or the path of a config.yaml.")
    try:
        data = read_yaml(path)
    except YamlError as error:
        raise UserError(f"{path} cannot be read as YAML ({error}): give a config.yaml that codistill wrote.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no settings: it must be a mapping such as 'method: okddip'.")
    version = data.pop("version", FORMAT)
    if type(version) is not int or version < FORMAT:
        raise UserError(f"{path} has the format version {version!r}: write version: {FORMAT}, or leave it out.")
    if version > FORMAT:
        raise UserError(
            f"{path} has format version {version}, this codistill reads {FORMAT}: install a newer codistill."
        )
    recipe = recipe or data.get("recipe")
    config = config_from_dict(data if recipe is None else merged(recipe, data))
    found_in_file(code_names(config))
    return dataclasses.replace(config, label=None) if config.label == default_label(config) else config


def apply_settings(config: Config, settings: Sequence[str]) -> Config:
    """Apply "a.b=c" settings in order; values are YAML ("0.05", "[0.3, 0.6]", "null", "true").

    Raises:
        UserError: no "=", an unknown name, or a value of the wrong type.
    """
    data = config_to_dict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UserError(f"--set {setting!r}: give NAME=VALUE, such as optim.lr=0.05.")
        if name == "recipe":
            raise UserError(
                f"--set {setting}: a run starts from a recipe, before its other settings; give --recipe {text}."
            )
        place, keys = data, name.split(".")
        for depth, key in enumerate(keys[:-1]):
            if key not in place or not isinstance(place[key], dict):
                raise unknown("setting", ".".join(keys[: depth + 1]), _names(data))
            place = place[key]
        if keys[-1] not in place and tuple(keys[:-1]) not in OPEN:
            raise unknown("setting", name, _names(data))
        try:
            place[keys[-1]] = parse_yaml(text)
        except YamlError as error:
            shown = textwrap.shorten(repr(setting), 80, placeholder=" ...")
            raise UserError(f"--set {shown}: this is not a YAML value ({error}).") from error
    return config_from_dict(data)


def _names(data: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in data.items():
        names += [prefix + key] if not isinstance(value, dict) else _names(value, f"{prefix}{key}.")
    return names
