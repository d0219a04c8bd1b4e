"""Students that were exported as ONNX, run by onnxruntime; torch is not needed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from codistill.errors import UserError, one_line
from codistill.rundir import ENTRY, StudentRecord
from codistill.rundir.files import parse_record
from codistill.students.student import Student, preparation_in, whole_picture

__all__ = ["OnnxStudent", "from_onnx"]


class OnnxStudent(Student):
    """A session of onnxruntime. Where the graph resizes, `read` gives it whole pictures, uint8 [H, W, C]."""

    def __init__(self, session: Any, record: StudentRecord, source: Path) -> None:
        super().__init__(source, record.classes, preparation_in(record, source))
        self.session, self.input = session, session.get_inputs()[0].name
        self.kind = next((file for file in record.files.values() if file.format == "onnx"), None)

    def read(self, picture: Any) -> np.ndarray:
        """See `Student`."""
        resizes = self.kind is not None and self.kind.reads == "pictures"
        return whole_picture(picture, self.preparation) if resizes else super().read(picture)

    @property
    def gives_probabilities(self) -> bool:
        """See `Student`."""
        return self.kind is not None and self.kind.gives == "probabilities"

    def outputs(self, inputs_BCHW: np.ndarray) -> np.ndarray:
        """See `Student`."""
        return self.session.run(None, {self.input: inputs_BCHW})[0]


def from_onnx(file: Path, device: str) -> Student:
    """Return the student in an ONNX file; see `open_student`."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install 'codistill[onnx]'.") from error
    kind, _, number = device.partition(":")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(kind)
    # There is one CPU, whatever its number.
    known = number in ("", "0") if kind == "cpu" else not number or number.isdecimal()
    if provider not in runtime.get_available_providers() or not known:
        raise UserError(
            f"device {device!r} is not there for ONNX files: the onnxruntime here runs on {_devices(runtime)}."
        )
    options = {"device_id": number or "0"} if provider == "CUDAExecutionProvider" else {}
    try:
        session = runtime.InferenceSession(str(file), providers=[(provider, options)])
    except Exception as error:  # onnxruntime raises errors of many types of its own.
        raise UserError(
            f"{file} cannot be read as an ONNX network ({one_line(error)[:200]}): export the student again."
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(ENTRY)
    if text is None:
        raise UserError(
            f"{file} does not name its classes or say how pictures are prepared: it was not written by "
            "'codistill export --format onnx'; export the student so."
        )
    return OnnxStudent(session, parse_record(str(file), file, text.encode(), StudentRecord), file)


def _devices(runtime: Any) -> str:
    names = [name.removesuffix("ExecutionProvider").lower() for name in runtime.get_available_providers()]
    return ", ".join(name for name in names if name in ("cpu", "cuda"))
