"""What `codistill export` is asked for; the text after a field is its help on the command line. No torch in here."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from codistill.errors import UserError, check_rules, unknown

__all__ = ["CALIBRATION", "FORMATS", "PRECISIONS", "ExportRequest", "check_request"]

PRECISIONS = {
    "safetensors": ("float32", "float16"),
    "onnx": ("float32", "float16", "int8"),
    "torch-export": ("float32",),
    "hub": ("float32",),
}
"""Every format, with the precisions in which it can be written."""

FORMATS = tuple(PRECISIONS)

CALIBRATION = 256
"""Training images from which the ranges of int8 are taken, if no number is given."""


@dataclass(frozen=True)
class ExportRequest:
    """Write one student as the plain network, checked against the student in its group."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    format: Literal["safetensors", "onnx", "torch-export", "hub"] = "safetensors"
    """Weights alone; a graph for ONNX Runtime; a graph for torch; or a folder for the Hugging Face Hub."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """Numbers in the file: float16 for safetensors and onnx, int8 for onnx."""
    with_preprocessing: bool = False
    """onnx: the graph resizes and normalises; it reads uint8 pictures [B, H, W, C] and gives probabilities."""
    calibration: int | None = None
    """int8: number of training images from which the ranges of its numbers are taken; 256 if left out."""
    peer: str = "leader"
    """leader, or the number of a student, counted from 0."""
    checkpoint: Literal["last", "selected"] = "last"
    """Weights of the last epoch, or of the epoch with the lowest validation error."""
    averaged: bool = False
    """Insist on moving averages of the weights. A run that keeps them (--average) exports them anyway."""
    data_dir: Path | None = None
    """Where the run's data are now, if they were moved since: the file is checked on its validation images."""
    license: str | None = None
    """hub: the licence that the card names, such as apache-2.0."""
    push: str | None = None
    """hub: also upload to OWNER/NAME with your own token; a repository that is not there yet is made private."""
    out: Path | None = None
    """Folder to write to; RUN/export if left out."""


def check_request(request: ExportRequest) -> None:
    """Raise UserError for what cannot be written, before anything is loaded.

    Raises:
        UserError: an unknown format, a precision or an option that the format does not have, a number out of range, or
            a package that is not installed.
    """
    known = PRECISIONS.get(request.format)
    if known is None:
        raise unknown("export format", request.format, FORMATS)
    if request.precision not in known:
        others = [name for name, them in PRECISIONS.items() if request.precision in them]
        instead = f", or --format {' or '.join(others)}" if others else ""
        raise UserError(
            f"precision {request.precision} with format {request.format}: choose --precision {' or '.join(known)}"
            f"{instead}."
        )
    _refuse_options_of_others(request)
    calibration = CALIBRATION if request.calibration is None else request.calibration
    check_rules(("calibration", calibration, calibration >= 1, "1 image or more"))
    if request.push is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", request.push):
        raise UserError(f"push {request.push!r}: name the repository as OWNER/NAME.")
    for package, extra in _packages(request):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed: pip install 'codistill[{extra}]'.")


def _refuse_options_of_others(request: ExportRequest) -> None:
    options = (
        ("with_preprocessing", request.with_preprocessing, request.format == "onnx", "--format onnx"),
        ("calibration", request.calibration is not None, request.precision == "int8", "--precision int8"),
        ("license", request.license is not None, request.format == "hub", "--format hub"),
        ("push", request.push is not None, request.format == "hub", "--format hub"),
    )
    for name, given, has_effect, needed in options:
        if given and not has_effect:
            raise UserError(f"{name} has no effect here: leave it out, or choose {needed}.")


def _packages(request: ExportRequest) -> list[tuple[str, str]]:
    """Packages that the request needs, each with the extra of ours that brings it."""
    if request.format == "onnx":
        return [(package, "onnx") for package in ("onnx", "onnxscript", "onnxruntime")]
    return [("huggingface_hub", "hub")] if request.push is not None else []
