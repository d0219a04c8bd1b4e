"""Bundles of settings for common cases. What is given explicitly, on the command line or in a file, overrides them.

A recipe that has been published keeps its values: the runs that name it were trained with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codistill.config.settings import Config
from codistill.convert import build_dataclass
from codistill.errors import UserError, unknown

__all__ = ["RECIPES", "check_recipe", "describe_recipe", "merged", "recipe_config"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # Cosine, smoothed labels and no decay of norms are what He et al. (2019), "Bag of tricks", found to help most.
    "scratch": {
        "label_smoothing": 0.1,
        "optim": {"schedule": "cosine", "decay": "matrices", "warmup_epochs": 1.0, "clip_grad": 5.0},
    },
    # AdamW with small rates in early layers, as ConvNeXt and BEiT are fine-tuned.
    "finetune": {
        "init": ["pretrained"],
        "epochs": 20,
        "batch_size": 32,
        "label_smoothing": 0.1,
        "optim": {
            "name": "adamw", "lr": 1e-4, "weight_decay": 0.05, "decay": "matrices", "head_lr": 10.0,
            "layer_decay": 0.75, "schedule": "cosine", "warmup_epochs": 1.0, "clip_grad": 1.0,
        },
    },
    # Chen et al. (AAAI 2020), CIFAR.
    "okddip": {
        "method": "okddip",
        "peers": 4,
        "epochs": 300,
        "batch_size": 128,
        "optim": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "schedule": "step", "milestones": [0.5, 0.75]},
    },
    # Guo et al. (CVPR 2020), CIFAR.
    "kdcl": {
        "method": "kdcl_minlogit",
        "icl": True,
        "epochs": 200,
        "batch_size": 128,
        "optim": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "schedule": "step", "milestones": [0.3, 0.6, 0.9]},
    },
}  # fmt: skip
"""Name -> settings, nested as in config.yaml."""


def recipe_config(name: str, **settings: Any) -> Config:
    """Return the configuration of a recipe, with these settings of `Config` in the place of its own.

    Raises:
        UserError: an unknown recipe or setting.
    """
    config = build_dataclass(Config, merged(name, {}))
    known = [field.name for field in dataclasses.fields(Config)]
    wrong = next((key for key in settings if key not in known), None)
    if wrong is not None:
        raise unknown("setting", wrong, known)
    return dataclasses.replace(config, **settings)


def merged(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with those of the recipe where they are missing."""
    # From a file, it may be anything.
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown("recipe", str(name), RECIPES)
    return {**_under(settings, RECIPES[name]), "recipe": name}


def check_recipe(config: Config) -> None:
    """UserError where a configuration names a recipe and has none of the settings that the recipe changes."""
    if config.recipe is None:
        return
    usual, own = Config(), _flat(config.recipe)
    changed = [(key, value) for key, value in own if value != _value(usual, key)]
    if not any(_value(config, key) == value for key, value in (changed if len(changed) > 1 else own)):
        raise UserError(
            f"recipe {config.recipe!r} names the origin of a configuration, and none of its settings is there: start "
            f"from codistill.config.recipe_config({config.recipe!r}, ...)."
        )


def describe_recipe(config: Config) -> str:
    """Return the recipe's settings with the values that the run has, and the recipe's own where they differ."""
    assert config.recipe is not None
    told = []
    for key, own in _flat(config.recipe):
        value = _value(config, key)
        told.append(f"{key} {value}" if value == own else f"{key} {value} (the recipe: {own})")
    return f"recipe {config.recipe}: {', '.join(told)}"


def _under(settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    both = {**recipe, **settings}
    for key, value in recipe.items():
        if isinstance(value, Mapping) and isinstance(settings.get(key), Mapping):
            both[key] = _under(settings[key], value)
    return both


def _flat(name: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in RECIPES[name].items():
        flat += [(f"{key}.{k}", v) for k, v in value.items()] if isinstance(value, Mapping) else [(key, value)]
    return flat


def _value(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value
