"""codistill: a group of networks that teach each other, and one better network at the end."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from codistill.errors import UserError

if TYPE_CHECKING:
    from codistill.training import Config, RunResult, load_student, resume, train
    from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

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

_HOMES = {
    "codistill.types": ("GroupShape", "PeerOutputs", "Progress", "StepOutput"),
    "codistill.training": ("Config", "RunResult", "load_student", "resume", "train"),
}
_PACKAGES = ("data", "execution", "losses", "methods", "models", "peers", "reports", "targets")


def __getattr__(name: str) -> Any:
    # Loaded on first use: who wants a report should not wait for torch, nor who needs one loss for the data readers.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    if name in _PACKAGES:
        return import_module(f"codistill.{name}")
    raise AttributeError(f"module 'codistill' has no attribute {name!r}")
