"""Training: configuration, loop, run directory."""

from codistill.training.config import AugmentConfig, Config, OptimConfig
from codistill.training.configfile import apply_settings, config_from_dict, config_to_dict, read_config, write_config
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
