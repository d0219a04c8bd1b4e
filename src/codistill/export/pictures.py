"""What the student makes of whole pictures, for files that resize pictures themselves."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from codistill.export.check import Network, outputs_of
from codistill.export.samples import Samples
from codistill.prepare import prepare
from codistill.rundir import Preparation

__all__ = ["from_pictures"]

_SIZES = ((1.0, 1.0), (1.7, 2.3), (1.9, 0.8))
"""Height and width of the pictures, as shares of the size that the network reads."""
_PICTURES = 64


def from_pictures(
    student: Network, file: Network, samples: Samples, how: Preparation
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the probabilities of the student, those of the file, and the labels, for pictures of several sizes.

    The run's images are enlarged to pictures, which the student gets from `prepare` and the file as they are.
    """
    sizes = [(1.0, 1.0)] if how.resize == "none" else _SIZES
    count = min(len(samples), _PICTURES)
    chosen_N = torch.linspace(0, len(samples) - 1, count).round().long()
    ours, theirs = [], []
    for high, wide in sizes:
        size = round(how.width * wide), round(how.height * high)
        pictures = [
            _picture(pixels_CHW).resize(size, Image.Resampling.BICUBIC) for pixels_CHW in samples.pixels_NCHW[chosen_N]
        ]
        prepared = [torch.from_numpy(prepare(picture, how.to_json())) for picture in pictures]
        ours.append(outputs_of(student, [torch.stack(prepared)]).softmax(1))
        theirs.append(outputs_of(file, [torch.stack([_pixels(picture) for picture in pictures])]))
    labels = None if samples.labels_N is None else samples.labels_N[chosen_N].repeat(len(sizes))
    return torch.cat(ours), torch.cat(theirs), labels


def _picture(pixels_CHW: Tensor) -> Image.Image:
    array = pixels_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _pixels(picture: Image.Image) -> Tensor:
    """Return uint8 [H, W, C]."""
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.reshape(picture.height, picture.width, -1)
