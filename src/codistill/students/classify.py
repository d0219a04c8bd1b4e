"""Classifies pictures with a student, in the order given."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codistill.errors import UserError, check_rules
from codistill.students.listing import find_pictures
from codistill.students.opening import open_student
from codistill.students.reading import ReadPicture, read_batches
from codistill.students.student import Student

__all__ = ["Prediction", "predict"]


@dataclass(frozen=True)
class Prediction:
    """What a student says of one picture.

    Attributes:
        picture: its path, or "picture 3" (counted from 0) for one that has none.
        classes: the most probable classes, best first; empty if the picture cannot be read.
        probabilities: theirs, 0 to 1.
        error: why the picture cannot be read; None if it can.
    """

    picture: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def predict(
    student: Student | Path | str,
    images: Any,
    *,
    top: int = 5,
    batch_size: int = 64,
    threads: int | None = None,
    watch: Callable[[int, int], object] | None = None,
    follow_links: bool = False,
) -> list[Prediction]:
    """Classify pictures, and return one prediction for each, in the order given.

    Args:
        student: what `open_student` returned, or a path for it.
        images: paths of pictures or of folders (see `find_pictures`), file objects or PIL images; a list, or one of
            them.
        top: how many classes to return for each, at most all.
        batch_size: how many pictures the network reads at once.
        threads: how many pictures are read at once; as many as there are processors, up to 16, if None.
        follow_links: whether links that leave a folder among `images` are followed.
        watch: is called after every batch with the number of pictures that are done, and of all.

    Raises:
        UserError: none of the pictures can be read, there are none, a number is out of range, or as for `open_student`.
            A picture among others that cannot be read has a prediction that says why.
    """
    for name, number in (("top", top), ("batch_size", batch_size), ("threads", 1 if threads is None else threads)):
        check_rules((name, repr(number), isinstance(number, Integral), "a whole number, 1 or more"))
        check_rules((name, number, number >= 1, "1 or more"))
    opened = student if isinstance(student, Student) else open_student(student)
    pictures = _pictures(images, follow_links)
    found: list[Prediction] = []
    for batch in read_batches(opened.read, pictures, batch_size, threads):
        found += _predicted(opened, batch, top)
        if watch is not None:
            watch(len(found), len(pictures))
    _refuse_nothing_read(found)
    return found


def _pictures(images: Any, follow_links: bool) -> list[Any]:
    """The pictures in a list, with folders replaced by what they hold."""
    given = list(images) if isinstance(images, list | tuple) else [images]
    found: list[Any] = []
    for one in given:
        if isinstance(one, str | Path):
            files, notes = find_pictures([one], follow_links)
            found += files
            for note in notes:
                warnings.warn(note, stacklevel=3)
        elif isinstance(one, Image.Image) or hasattr(one, "read"):
            found.append(one)
        else:
            raise UserError(f"image {len(found)} is a {type(one).__name__}: give a path, a file object or a PIL image.")
    if not found:
        raise UserError("there are no images: give at least one.")
    return found


def _predicted(student: Student, batch: Sequence[ReadPicture], top: int) -> list[Prediction]:
    rows: list[np.ndarray] = []
    good = [one.pixels for one in batch if one.pixels is not None]
    # A network that resizes by itself reads pictures of any size, but of one size at a time.
    for _, same in groupby(good, key=lambda pixels: pixels.shape):
        rows += list(student.probabilities(np.stack(list(same))))
    left = iter(rows)
    return [
        Prediction(one.name, error=one.error) if one.pixels is None else _best(student, one.name, next(left), top)
        for one in batch
    ]


def _best(student: Student, name: str, prob_C: np.ndarray, top: int) -> Prediction:
    order = np.argsort(-prob_C, kind="stable")[:top]
    return Prediction(name, tuple(student.classes[c] for c in order), tuple(float(prob_C[c]) for c in order))


def _refuse_nothing_read(found: Sequence[Prediction]) -> None:
    bad = [one for one in found if one.error is not None]
    if len(bad) < len(found):
        return
    if len(bad) == 1:
        raise UserError(f"{bad[0].picture} cannot be read as a picture ({bad[0].error}): give another file.")
    raise UserError(
        f"none of the {len(bad)} pictures can be read, the first of them {bad[0].picture} ({bad[0].error}): give other "
        "files."
    )
