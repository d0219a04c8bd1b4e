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
    from codistill import students as students
    from codistill import studies as studies
    from codistill import targets as targets
    from codistill import training as training
    from codistill.joint import Joint, JointOutput
    from codistill.students import Prediction, Student, open_student, predict
    from codistill.training import Config, Observer, RunResult, load_student, resume, train
    from codistill.trusted import trust
    from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GroupShape",
    "Joint",
    "JointOutput",
    "Observer",
    "PeerOutputs",
    "Prediction",
    "Progress",
    "RunResult",
    "StepOutput",
    "Student",
    "UserError",
    "load_student",
    "open_student",
    "predict",
    "resume",
    "train",
    "trust",
]

import_on_use(
    __name__,
    {
        "joint": "Joint JointOutput",
        "students": "Prediction Student open_student predict",
        "types": "GroupShape PeerOutputs Progress StepOutput",
        "training": "Config Observer RunResult load_student resume train",
        "trusted": "trust",
    },
    "data execution export losses methods models peers reports students studies targets training",
)
