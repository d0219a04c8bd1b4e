"""codistill: a group of networks that teach each other, and one better network at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.errors import UserError
from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill import data as data
    from codistill import execution as execution
    from codistill import export as export
    from codistill import losses as losses
    from codistill import methods as methods
    from codistill import models as models
    from codistill import peers as peers
    from codistill import reports as reports
    from codistill import studies as studies
    from codistill import targets as targets
    from codistill import training as training
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

import_on_use(
    __name__,
    {
        "types": "GroupShape PeerOutputs Progress StepOutput",
        "training": "Config RunResult load_student resume train",
    },
    "data execution export losses methods models peers reports studies targets training",
)
