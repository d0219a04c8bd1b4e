"""What the loop reads: batches of views and labels for training, undistorted images for evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from codistill import data
from codistill.data import Images
from codistill.errors import UserError
from codistill.execution.world import share_of
from codistill.training.class_balance import balanced_draw
from codistill.training.session import Session

__all__ = [
    "Batch",
    "evaluation_batch",
    "evaluation_images",
    "leftover",
    "plain_batches",
    "refuse_small_batches",
    "training_batches",
]

_MOST, _LEAST, _CACHED_PIXELS = 512, 16, 64 * 32 * 32


@dataclass(frozen=True)
class Batch:
    """One step's images and labels, on the run's device.

    Attributes:
        views: float [B, C, H, W] for all students, or with icl a tuple of one such tensor per student.
        labels: what is learned, in the form of the run's task.
        classes_B: class indices for counting errors.
    """

    views: Tensor | tuple[Tensor, ...]
    labels: Tensor
    classes_B: Tensor


def training_batches(session: Session) -> Iterator[Batch]:
    """Yield one epoch in its random order, or what is left of it; draws from the generators "order" and "augmentation".

    The views of a batch are overwritten by the next one.
    """
    s, dataset, policy = session, session.dataset, session.config.augment
    generator = s.generators["augmentation"]
    state = generator.get_state()
    if s.step:
        # The order is drawn again as it was when the epoch began.
        for name, start in s.epoch_start.items():
            s.generators[name].set_state(start)
    else:
        s.epoch_start = {name: s.generators[name].get_state() for name in ("order", "augmentation")}
    steps = data.training_views(
        s.images("train"),
        _order(s, s.generators["order"]),
        policy,
        dataset.mean,
        dataset.std,
        views=s.shape.peers if s.config.icl else 1,
        generator=generator,
        workers=s.workers,
        device=s.device,
        go_on=(s.step, state) if s.step else None,
        timeout=s.config.worker_timeout,
        # Mixed images need those of other processes.
        rows=_rows(s) if policy.mix is None else None,
    )
    for views, classes_B in steps:
        classes_B = classes_B.to(s.device, non_blocking=True)
        views, labels, classes_B = s.task.mix(views, classes_B, policy, generator)
        yield Batch(views if s.config.icl else views[0], labels, classes_B)


def plain_batches(session: Session, generator: torch.Generator, most: int) -> Iterator[Tensor]:
    """Yield up to `most` batches [B, C, H, W] of an epoch of its own, distorted but not mixed, one view for all."""
    s, policy = session, session.config.augment
    policy = dataclasses.replace(policy, policies=policy.policies[:1])
    steps = data.training_views(
        s.images("train"), _order(s, generator)[:most], policy, s.dataset.mean, s.dataset.std,
        views=1, generator=generator, workers=s.workers, device=s.device,
        timeout=s.config.worker_timeout,
    )  # fmt: skip
    for (view,), _ in steps:
        yield view


def _order(session: Session, generator: torch.Generator) -> list[Tensor]:
    """The images of each step of an epoch."""
    s, part_N = session, session.splits.train_N
    if s.config.sampler == "balanced":
        part_N = part_N[balanced_draw(s.dataset.train.labels_N[part_N], len(s.dataset.classes), generator)]
    order = data.batches(len(part_N), s.config.batch_size, generator, s.config.last_batch)
    return [part_N[index_B] for index_B in order]


def leftover(session: Session) -> int:
    """Return how many training images an epoch leaves out because they do not fill a whole batch."""
    images, size = len(session.splits.train_N), session.config.batch_size
    return images % size if session.config.last_batch == "drop" else 0


def refuse_small_batches(session: Session) -> None:
    """UserError for a mesh with more replicas than the smallest batch has images."""
    config, world = session.config, session.world
    size, more = config.batch_size, len(session.splits.train_N) % config.batch_size
    # A single image that is left over joins the batch before it.
    smallest = more if more > 1 and config.last_batch == "keep" else size
    if world is not None and smallest < world.mesh.data:
        last = "" if smallest == size else "the last one of an epoch, which --last-batch drop would leave out; "
        raise UserError(
            f"mesh {world.mesh} with a batch of {smallest} images for {world.mesh.data} replicas: {last}give larger "
            "batches, or fewer replicas."
        )


def evaluation_batch(image: Sequence[int], device: torch.device) -> int:
    """Return how many images [C, H, W] to evaluate at once: on a CPU, so few that a layer's activations fit its cache.

    Measured per image of 32 x 32, ResNet-32 took half as long with 64 at once as with 512. For 8 x 8, 512 were best.
    """
    _, height, width = image
    fitting = _CACHED_PIXELS // (height * width) if device.type == "cpu" else _MOST
    return min(max(fitting, _LEAST), _MOST)


def evaluation_images(session: Session, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order, normalised but not distorted, [n, C, H, W], and their labels, on the run's device."""
    mean, std, device = session.dataset.mean, session.dataset.std, session.device
    size = evaluation_batch(images.shape, device)
    timeout = session.config.worker_timeout
    for pixels, labels in data.evaluation_batches(images, size, session.workers, device, timeout, _rows(session)):
        yield data.normalise(pixels, mean, std, device), labels.to(device)


def _rows(session: Session) -> Callable[[int], slice] | None:
    """Which images of a batch of so many this process reads; None: all. It goes to the processes that decode."""
    world = session.world
    return None if world is None else partial(_share_or_all, place=world.data_rank, n=world.mesh.data)


def _share_or_all(count: int, place: int, n: int) -> slice:
    # Of fewer images than replicas, all see all.
    return share_of(count, place, n) if count >= n else slice(0, count)
