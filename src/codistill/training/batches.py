"""What the loop reads: batches of views with their labels for training, plain images for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codistill import data
from codistill.data import Images
from codistill.training.session import Session

__all__ = ["Batch", "evaluation_batch", "evaluation_images", "leftover", "training_batches"]

_MOST, _LEAST, _CACHED_PIXELS = 512, 16, 64 * 32 * 32


@dataclass(frozen=True)
class Batch:
    """One step's images and labels, on the run's device.

    Attributes:
        views: float [B, C, H, W] for all students, or with icl a tuple of one such tensor a student.
        labels: class indices [B], or probabilities [B, C] where mixup or cutmix has mixed them.
        classes_B: class indices for counting errors; of mixed images the class of the larger share.
    """

    views: Tensor | tuple[Tensor, ...]
    labels: Tensor
    classes_B: Tensor


def training_batches(session: Session) -> Iterator[Batch]:
    """One epoch in its random order; draws from the generators "order" and "augmentation".

    A batch's views hold until the next batch is asked for.
    """
    s, part, dataset = session, session.splits.train_N, session.dataset
    order = data.batches(len(part), s.config.batch_size, s.generators["order"], s.config.last_batch)
    generator = s.generators["augmentation"]
    steps = data.training_views(
        dataset.train,
        [part[index_B] for index_B in order],
        s.policy,
        dataset.mean,
        dataset.std,
        views=s.shape.peers if s.config.icl else 1,
        generator=generator,
        workers=s.workers,
        device=s.device,
    )
    for views, classes_B in steps:
        classes_B = classes_B.to(s.device, non_blocking=True)
        labels = classes_B
        if s.policy.mix is not None:
            alpha, count = s.policy.mix_alpha, len(dataset.classes)
            views, labels = data.mix_views(views, classes_B, count, s.policy.mix, alpha, generator)
            classes_B = labels.argmax(-1)
        yield Batch(views if s.config.icl else views[0], labels, classes_B)


def leftover(session: Session) -> int:
    """How many training images an epoch leaves out, since they fill no whole batch."""
    images, size = len(session.splits.train_N), session.config.batch_size
    return images % size if session.config.last_batch == "drop" else 0


def evaluation_batch(image: Sequence[int], device: torch.device) -> int:
    """How many images of [C, H, W] pass at once; on a CPU so few that a layer's activations stay in its cache.

    An image took ResNet-32 half the time with 64 of 32 x 32 at once as with 512; 512 of 8 x 8 were best for tiny ones.
    """
    _, height, width = image
    fitting = _CACHED_PIXELS // (height * width) if device.type == "cpu" else _MOST
    return min(max(fitting, _LEAST), _MOST)


def evaluation_images(session: Session, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, normalised but not distorted, [n, C, H, W], and their labels, on the run's device."""
    mean, std, device = session.dataset.mean, session.dataset.std, session.device
    size = evaluation_batch(images.shape, device)
    for pixels, labels in data.evaluation_batches(images, size, session.workers, device):
        yield data.normalise(pixels, mean, std, device), labels.to(device)
