"""Training: configuration, loop, run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.training.config import AugmentConfig, Config, OptimConfig
    from codistill.training.configfile import (
        apply_settings,
        config_from_dict,
        config_to_dict,
        read_config,
        write_config,
    )
    from codistill.training.loggers import Silent
    from codistill.training.loop import Observer
    from codistill.training.run import RunResult, resume, train
    from codistill.training.student import load_group, load_student

__all__ = [
    "AugmentConfig",
    "Config",
    "Observer",
    "OptimConfig",
    "RunResult",
    "Silent",
    "apply_settings",
    "config_from_dict",
    "config_to_dict",
    "load_group",
    "load_student",
    "read_config",
    "resume",
    "train",
    "write_config",
]

import_on_use(
    __name__,
    {
        "config": "AugmentConfig Config OptimConfig",
        "configfile": "apply_settings config_from_dict config_to_dict read_config write_config",
        "loggers": "Silent",
        "loop": "Observer",
        "run": "RunResult resume train",
        "student": "load_group load_student",
    },
)
