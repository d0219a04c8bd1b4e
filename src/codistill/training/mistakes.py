"""The most confident mistakes on the test images, gathered while these are scored, with their pixels."""

from __future__ import annotations

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from codistill.data import ImageSet
from codistill.rundir import Mistake, Mistakes
from codistill.training.session import Session
from codistill.types import PeerOutputs

__all__ = ["MistakeCollector"]

MOST = 12
SMALL, LARGE = 48, 96
"""Sides in pixels up to which a picture is stored exactly (PNG), and to which larger ones are shrunk (JPEG)."""


class MistakeCollector:
    """Keeps the `MOST` most confident mistakes of one student over the batches of an evaluation, on their device."""

    def __init__(self) -> None:
        self.student, self.seen = 0, 0
        self.kept: dict[str, Tensor] = {}

    def begin(self, student: int) -> None:
        """Start over, for this student."""
        self.student, self.seen = student, 0
        self.kept = {}

    def add(self, outputs: PeerOutputs, labels_B: Tensor) -> None:
        """See a batch; nothing is read back from the device."""
        confidence_B, predicted_B = outputs.logits_PBC[self.student].float().softmax(-1).max(-1)
        # The right ones sort last, and are dropped in the end.
        confidence_B = confidence_B.nan_to_num().where(predicted_B != labels_B, -1.0)
        index_B = self.seen + torch.arange(len(labels_B), device=labels_B.device)
        self.seen += len(labels_B)
        new = {"confidence": confidence_B, "index": index_B, "predicted": predicted_B, "truth": labels_B}
        both = {name: torch.cat([self.kept[name], part]) if self.kept else part for name, part in new.items()}
        # Stable, so that of equally confident ones the first in the data are kept.
        order = both["confidence"].sort(descending=True, stable=True).indices[:MOST]
        self.kept = {name: part[order] for name, part in both.items()}

    def record(self, session: Session) -> Mistakes:
        """Return what mistakes.json holds."""
        if not self.kept:
            return Mistakes(images=())
        wrong = self.kept["confidence"] >= 0
        columns = [self.kept[name][wrong].tolist() for name in ("index", "truth", "predicted", "confidence")]
        index_N = torch.tensor(columns[0], dtype=torch.int64)
        findings = session.dataset.findings
        names: list[str] = [] if findings is None else list(findings.test_names)
        pictures = _pictures(session, index_N) if len(index_N) else []
        return Mistakes(
            images=tuple(
                Mistake(
                    index=index,
                    name=names[index] if index < len(names) else None,
                    truth=truth,
                    predicted=predicted,
                    confidence=confidence,
                    picture=picture,
                )
                for index, truth, predicted, confidence, picture in zip(*columns, pictures, strict=True)
            )
        )


def _pictures(session: Session, index_N: Tensor) -> list[str]:
    test = session.dataset.test
    pixels_NCHW = test.images_NCHW[index_N] if isinstance(test, ImageSet) else test.decode(index_N)
    return [_uri(pixels_CHW) for pixels_CHW in pixels_NCHW]


def _uri(pixels_CHW: Tensor) -> str:
    pixels = pixels_CHW.permute(1, 2, 0).contiguous().numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind, options = ("png", {"optimize": True})
    if max(image.size) > SMALL:
        kind, options = "jpeg", {"quality": 80}
        image.thumbnail((LARGE, LARGE))
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
