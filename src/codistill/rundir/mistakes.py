"""mistakes.json: the test images that the student to deploy is most confidently wrong about, with small pictures."""

from __future__ import annotations

from dataclasses import dataclass

from codistill.rundir.names import FORMAT
from codistill.rundir.record import Record, RecordError

__all__ = ["Mistake", "Mistakes"]


@dataclass(frozen=True, kw_only=True)
class Mistake(Record):
    """One image.

    Attributes:
        index: its place in the test part, from 0.
        name: its file, or where else it is from; None where that is not known.
        truth: index of the class of its label.
        predicted: index of the class that the student names.
        confidence: probability that the student gives to that class.
        picture: a PNG or JPEG of the image as a data URI, with sides of at most 96 pixels.
    """

    index: int
    name: str | None
    truth: int
    predicted: int
    confidence: float
    picture: str

    def __post_init__(self) -> None:
        if not self.picture.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
            raise RecordError("is neither a PNG nor a JPEG as a data URI", "picture")


@dataclass(frozen=True, kw_only=True)
class Mistakes(Record):
    """mistakes.json, the most confident ones first; with the weights of the last epoch."""

    version: int = FORMAT
    images: tuple[Mistake, ...]
