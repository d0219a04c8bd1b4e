"""student.json: what an exported student reads and gives, where it comes from, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codistill.rundir.evaluation import Score
from codistill.rundir.input import InputRecord
from codistill.rundir.record import Record

__all__ = ["ENTRY", "STUDENT", "CheckRecord", "FileRecord", "StudentRecord"]

STUDENT = "student.json"
"""Name of the file beside the weights, and of the extra file inside student.pt2."""

ENTRY = "codistill"
"""Name of the entry in an ONNX file's metadata that holds the same record as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class CheckRecord(Record):
    """How an exported file was found to agree with the student in its group.

    Attributes:
        images: how many images both saw.
        of: which ones: "validation images" or "random pixels".
        compared: "logits" or "probabilities".
        largest_difference: over all images and classes.
        scale: the largest absolute value among the student's own.
        tolerance: what the difference may be at most; None for int8, whose error is bounded instead.
        agreement: percent of images with the same predicted class.
        student_error: top-1 error of the student on these images in percent; None where they have no labels.
        file_error: that of the file.
    """

    images: int
    of: str
    compared: str
    largest_difference: float
    scale: float
    tolerance: float | None = None
    agreement: float
    student_error: float | None = None
    file_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class FileRecord(Record):
    """One file with the student in it.

    Attributes:
        format: "safetensors", "onnx", "torch-export" or "hub".
        precision: "float32", "float16" or "int8".
        reads: "images", float32 [B, C, height, width] as `preparation` makes them, or "pictures", uint8 [B, H, W, C] of
            any size (of height × width where `preparation.resize` is "none").
        gives: "logits" or "probabilities", float32 [B, classes].
        opset: of ONNX.
        calibration_images: of how many training images int8 has its ranges; None for other precisions.
        check: None in the copy of the record that is inside the file itself.
    """

    format: str
    precision: str = "float32"
    reads: str = "images"
    gives: str = "logits"
    opset: int | None = None
    calibration_images: int | None = None
    check: CheckRecord | None = None


@dataclass(frozen=True, kw_only=True)
class StudentRecord(InputRecord):
    """student.json, which also is an input record. Older exports have no entries after `test`.

    Attributes:
        model: name of the network.
        peer: number of the student in its group.
        run: label of the run.
        test: its score on the test images; None if the run was not finished.
        test_images: how many these were.
        figure: the run's headline figure, one of `FIGURES`.
        method: name of the method.
        seed: of the run.
        checkpoint: "last" or "selected".
        weights: "trained", or "averaged" where moving averages of the weights are deployed.
        weights_sha256: of all tensors in float32, in the order of their names.
        versions: of codistill and the packages that wrote the files.
        files: by their names.
    """

    model: str
    peer: int = 0
    run: str = ""
    test: Score | None = None
    test_images: int | None = None
    figure: str = "error"
    method: str = ""
    seed: int | None = None
    checkpoint: str = "last"
    weights: str = "trained"
    weights_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)
