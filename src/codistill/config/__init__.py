"""The settings of a run: what they are, how they are written as YAML, and what a run is called after them.

Nothing here imports torch, so that what starts a run and what reads one can both ask what a setting means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.config.file import (
        apply_settings,
        code_names,
        config_digest,
        config_from_dict,
        config_to_dict,
        identity,
        read_config,
        write_config,
    )
    from codistill.config.naming import default_label, default_out
    from codistill.config.optim import OptimConfig
    from codistill.config.recipes import RECIPES, check_recipe, describe_recipe, recipe_config
    from codistill.config.settings import NOTHING, REPEATS, ROUNDING, Config, Logger, filled

__all__ = [
    "NOTHING",
    "RECIPES",
    "REPEATS",
    "ROUNDING",
    "Config",
    "Logger",
    "OptimConfig",
    "apply_settings",
    "check_recipe",
    "code_names",
    "config_digest",
    "config_from_dict",
    "config_to_dict",
    "default_label",
    "default_out",
    "describe_recipe",
    "filled",
    "identity",
    "read_config",
    "recipe_config",
    "write_config",
]

import_on_use(
    __name__,
    {
        "file": (
            "apply_settings code_names config_digest config_from_dict config_to_dict identity read_config write_config"
        ),
        "naming": "default_label default_out",
        "optim": "OptimConfig",
        "recipes": "RECIPES check_recipe describe_recipe recipe_config",
        "settings": "NOTHING REPEATS ROUNDING Config Logger filled",
    },
)
