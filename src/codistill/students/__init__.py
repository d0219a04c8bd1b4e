"""Trained students at work: opened from a run directory or from what was exported, they classify pictures.

    student = open_student("runs/x")
    for prediction in predict(student, ["cat.jpg", "folder/"]):
        print(prediction.picture, prediction.classes[0], prediction.probabilities[0])

An ONNX file needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.students.classify import Prediction, predict
    from codistill.students.command import run_predictions
    from codistill.students.listing import find_pictures
    from codistill.students.opening import open_student
    from codistill.students.score_command import score_folder
    from codistill.students.scoring import FolderScores, evaluate_folder
    from codistill.students.student import Student

__all__ = [
    "FolderScores",
    "Prediction",
    "Student",
    "evaluate_folder",
    "find_pictures",
    "open_student",
    "predict",
    "run_predictions",
    "score_folder",
]

import_on_use(
    __name__,
    {
        "classify": "Prediction predict",
        "command": "run_predictions",
        "listing": "find_pictures",
        "opening": "open_student",
        "score_command": "score_folder",
        "scoring": "FolderScores evaluate_folder",
        "student": "Student",
    },
)
