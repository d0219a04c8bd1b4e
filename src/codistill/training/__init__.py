"""Training: from a configuration and data to a run directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.config import (
        Config,
        OptimConfig,
        apply_settings,
        config_from_dict,
        config_to_dict,
        read_config,
        write_config,
    )
    from codistill.training.loggers import TensorBoard, WandB
    from codistill.training.observers import Observer
    from codistill.training.run import RunResult, resume, train
    from codistill.training.student import load_group, load_student

__all__ = [
    "Config",
    "Observer",
    "OptimConfig",
    "RunResult",
    "TensorBoard",
    "WandB",
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
        "codistill.config": (
            "Config OptimConfig apply_settings config_from_dict config_to_dict read_config write_config"
        ),
        "loggers": "TensorBoard WandB",
        "observers": "Observer",
        "run": "RunResult resume train",
        "student": "load_group load_student",
    },
)
