"""`codistill predict`: opens the student, classifies, prints."""

from __future__ import annotations

import sys
from pathlib import Path

from codistill.errors import UserError
from codistill.rundir import write_whole
from codistill.students.classify import predict
from codistill.students.listing import find_pictures
from codistill.students.opening import open_student
from codistill.students.output import as_csv, as_json, as_table
from codistill.students.remarks import about_unreadable, progress_on, remarks_console
from codistill.students.request import PredictRequest, form_of
from codistill.terminal import Console

__all__ = ["run_predictions"]


def run_predictions(request: PredictRequest, console: Console) -> None:
    """Classify the pictures that are asked for, and print or write the result; remarks go to the standard error.

    Raises:
        UserError: as for `predict` and `form_of`, or the file cannot be written.
    """
    form = form_of(request)
    remarks = remarks_console()
    pictures, notes = find_pictures(request.images, request.follow_links)
    student = open_student(request.student, device=request.device, peer=request.peer, checkpoint=request.checkpoint)
    for note in notes:
        remarks.print(note)
    with progress_on(remarks) as watch:
        predictions = predict(student, pictures, top=request.top, batch_size=request.batch_size, watch=watch)
    unreadable = [(one.picture, one.error) for one in predictions if one.error is not None]
    for line in about_unreadable(unreadable, len(predictions) - len(unreadable)):
        remarks.print(line)
    if form is None:
        console.print(as_table(predictions))
        return
    text = as_json(student, predictions) if form == "json" else as_csv(predictions)
    if request.out is None:
        sys.stdout.write(text)
    else:
        _write(request.out, text)
        console.print(f"predictions: {request.out}", soft_wrap=True)


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)
    except OSError as error:
        raise UserError(f"out {out} cannot be written ({error.strerror}): give another file.") from error
