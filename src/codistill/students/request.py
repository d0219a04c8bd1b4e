"""What `codistill predict` is asked for; the text after a field is its help on the command line. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from codistill.errors import UserError

__all__ = ["PredictRequest", "form_of"]

FORMS = ("json", "csv")


@dataclass(frozen=True)
class PredictRequest:
    """Classify pictures with a trained student, and print the most probable classes of each."""

    student: Annotated[Positional[Path], arg(metavar="STUDENT")]
    """A run directory, a folder that export wrote, or the file in it."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE|FOLDER...")]
    """Pictures, and folders with pictures in them and in their subfolders."""
    top: int = 5
    """How many classes to show for each picture."""
    json: bool = False
    """Print JSON."""
    csv: bool = False
    """Print CSV, one line per picture."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write to this file instead; .json and .csv say how."""
    batch_size: int = 64
    """Pictures that the network reads at once."""
    follow_links: bool = False
    """Follow links that lead out of a folder among the pictures; otherwise they are left out."""
    device: Annotated[str | None, arg(metavar="TEXT")] = None
    """Device, such as cpu or cuda:0; if left out, a GPU if there is one (for ONNX files the CPU)."""
    peer: str = "leader"
    """Of a run directory: leader, or the number of a student, counted from 0."""
    checkpoint: Literal["last", "selected"] = "last"
    """Of a run directory: weights of the last epoch, or of the epoch with the lowest validation error."""


def form_of(request: PredictRequest) -> str | None:
    """Return "json" or "csv", as the options or the name of the file say; None for a table on the terminal.

    Raises:
        UserError: both are asked for, or the file cannot be written or does not say which.
    """
    if request.json and request.csv:
        raise UserError("--json and --csv: choose one of them.")
    form = next((name for name in FORMS if getattr(request, name)), None)
    if request.out is None:
        return form
    if request.out.is_dir():
        raise UserError(
            f"out {request.out} is a folder: give the name of a file, such as {request.out / 'classes.csv'}."
        )
    named = request.out.suffix.lower().removeprefix(".")
    if form is None and named not in FORMS:
        raise UserError(f"out {request.out}: name the file .csv or .json, or say which it is with --csv or --json.")
    return form or named
