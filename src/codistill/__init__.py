"""codistill: a group of networks that teach each other, and one better network at the end."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codistill.errors import UserError
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

if TYPE_CHECKING:
    from codistill.training import Config, RunResult, load_student, resume, train

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GroupShape",
    "PeerOutputs",
    "Progress",
    "RunResult",
    "StepOutput",
    "UserError",
    "load_student",
    "resume",
    "train",
]

_TRAINING = ("Config", "RunResult", "load_student", "resume", "train")
_PACKAGES = ("data", "execution", "losses", "methods", "models", "peers", "reports", "targets")


def __getattr__(name: str) -> Any:
    # Loaded on first use: who needs one loss function should not wait for torchvision and the readers.
    if name in _TRAINING:
        return getattr(import_module("codistill.training"), name)
    if name in _PACKAGES:
        return import_module(f"codistill.{name}")
    raise AttributeError(f"module 'codistill' has no attribute {name!r}")
