"""A student that classifies, whatever file it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codistill.data.opening import open_picture
from codistill.errors import UserError
from codistill.prepare import upright
from codistill.rundir import InputRecord, Preparation
from codistill.students.reading import prepared

__all__ = ["Student", "preparation_in", "whole_picture"]


class Student(ABC):
    """A trained network with the names of its classes and the preparation of its pictures.

    Args:
        source: the file or folder that it is from, for messages.
        classes: names, in the order of the network's outputs.
        preparation: how a picture becomes an input.
    """

    def __init__(self, source: Path, classes: tuple[str, ...], preparation: Preparation) -> None:
        self.source, self.classes, self.preparation = source, classes, preparation
        self._how = preparation.to_json()

    def read(self, picture: Any) -> np.ndarray:
        """Return the network's input for a picture (a path, a file object or a PIL image), float32 [C, H, W].

        Pillow's errors pass through, and ValueError for a picture of another size where none is resized.
        """
        return prepared(picture, self._how)

    def probabilities(self, inputs_BCHW: np.ndarray) -> np.ndarray:
        """Return the probabilities of the classes, float32 [B, C], for a batch of what `read` returns.

        Raises:
            UserError: the network does not give one number per class, or numbers that are not finite.
        """
        outputs_BC = self.outputs(inputs_BCHW)
        if outputs_BC.shape != (len(inputs_BCHW), len(self.classes)):
            raise UserError(
                f"{self.source} gives outputs {list(outputs_BC.shape[1:])} per picture for {len(self.classes)} class "
                "names: network and names do not belong together; export the student again."
            )
        if not np.isfinite(outputs_BC).all():
            raise UserError(f"{self.source} gives numbers that are not finite: its training diverged; train again.")
        return outputs_BC if self.gives_probabilities else _softmax(outputs_BC)

    @property
    def gives_probabilities(self) -> bool:
        """Whether `outputs` are probabilities; otherwise logits."""
        return False

    @abstractmethod
    def outputs(self, inputs_BCHW: np.ndarray) -> np.ndarray:
        """Return the network's outputs, float32 [B, C]."""


def _softmax(logits_BC: np.ndarray) -> np.ndarray:
    raised_BC = np.exp(logits_BC - logits_BC.max(1, keepdims=True))
    return raised_BC / raised_BC.sum(1, keepdims=True)


def whole_picture(picture: Any, preparation: Preparation) -> np.ndarray:
    """Return a picture as a network reads it that resizes by itself: upright, uint8 [H, W, C].

    ValueError for a picture of another size where none is resized.
    """
    if not isinstance(picture, Image.Image):
        with open_picture(picture) as opened:
            return whole_picture(opened, preparation)
    wanted = preparation.width, preparation.height
    if preparation.resize == "cover":
        picture.draft(picture.mode, (2 * wanted[0], 2 * wanted[1]))
    image = upright(picture, preparation.channels)
    if preparation.resize == "none" and image.size != wanted:
        raise ValueError(f"the picture has {image.width} × {image.height} pixels, not {wanted[0]} × {wanted[1]}")
    return np.array(image).reshape(image.height, image.width, -1)


def preparation_in(record: InputRecord, source: Path) -> Preparation:
    """Return the preparation in the record of an exported student; UserError if an older version left it out."""
    if record.preparation is None:
        raise UserError(
            f"{source} does not say how pictures are prepared, since it or its run is from an older codistill: add the "
            "entry preparation to the run's input.json (docs/predict.md) and export the student again."
        )
    return record.preparation
