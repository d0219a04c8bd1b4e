"""Batches of pixels for training and evaluation, out of memory or decoded by processes that work ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from codistill.data.lazy import LazyImages
from codistill.data.policy import AugmentPolicy
from codistill.data.types import Images, ImageSet
from codistill.data.views import crop_and_flip
from codistill.errors import UserError

__all__ = ["default_workers", "evaluation_batches", "training_frames"]

_LAZY_EVALUATION_BATCH = 64
_MOST_WORKERS = 8


def default_workers() -> int:
    """Processes that decode images where the user gives no number: one less than this process's cores, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cores - 1, _MOST_WORKERS), 0)


def training_frames(
    images: Images,
    batches: Sequence[Tensor],
    policy: AugmentPolicy,
    *,
    views: int,
    generator: torch.Generator,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cropped and flipped images of one epoch.

    Args:
        images: where they come from.
        batches: indices int64 [B] of every step.
        policy: crop and flip.
        views: V, copies of each image with a crop of their own.
        generator: CPU generator. Images in memory draw from it step by step; others draw one seed a step when the
            epoch begins, so that neither the number of processes nor how far they are ahead changes anything.
        workers: processes that decode images which are not in memory; 0: this one does.
        device: whose views these will be; images in memory are cropped there.

    Returns:
        (frames uint8 [V, B, C, H, W], labels int64 [B]) for every step, the labels on the CPU; the frames hold until
        the next step is asked for.
    """
    if isinstance(images, ImageSet):
        for index_B in batches:
            chosen = images.images_NCHW[index_B].to(device, non_blocking=True)
            yield crop_and_flip(chosen, policy, views, generator), images.labels_N[index_B]
        return
    seeds = torch.randint(2**62, (len(batches),), generator=generator).tolist()
    jobs = _Training(images, batches, seeds, views, policy.crop_min_area, policy.flip)
    for index_B, frames in zip(batches, _load(jobs, workers, device), strict=True):
        yield frames, images.labels_N[index_B]


def evaluation_batches(
    images: Images, batch_size: int, workers: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order without any distortion, uint8 [n, C, H, W] with n at most `batch_size`, and their labels."""
    if isinstance(images, ImageSet):
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            yield images.images_NCHW[part], images.labels_N[part]
        return
    batches = torch.arange(len(images)).split(min(batch_size, _LAZY_EVALUATION_BATCH))
    for index_B, pixels in zip(batches, _load(_Evaluation(images, batches), workers, device), strict=True):
        yield pixels, images.labels_N[index_B]


class _Evaluation(TorchDataset[Tensor | UserError]):
    def __init__(self, images: LazyImages, batches: Sequence[Tensor]) -> None:
        self.images, self.batches = images, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Tensor | UserError:
        # An error that is raised here would come out wrapped in a worker's traceback.
        try:
            return self.decode(step)
        except UserError as error:
            return error

    def decode(self, step: int) -> Tensor:
        return self.images.decode(self.batches[step])


class _Training(_Evaluation):
    def __init__(
        self,
        images: LazyImages,
        batches: Sequence[Tensor],
        seeds: Sequence[int],
        views: int,
        min_area: float,
        flip: bool,
    ) -> None:
        super().__init__(images, batches)
        self.seeds, self.views, self.min_area, self.flip = seeds, views, min_area, flip
        self.last: Tensor | None = None

    def decode(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seeds[step])
        index_B, v = self.batches[step], self.views
        frames = self.images.decode_views(index_B, v, self.min_area, self.flip, generator, self.last)
        # What a loader's process has sent belongs to the receiver.
        self.last = frames if get_worker_info() is None else None
        return frames


def _load(jobs: _Evaluation, workers: int, device: torch.device) -> Iterator[Tensor]:
    loader = DataLoader(
        jobs,
        batch_size=None,
        num_workers=min(workers, len(jobs)),
        pin_memory=device.type == "cuda",
        # The loader would draw a seed for its processes from torch's global generator.
        generator=torch.Generator(),
    )
    for made in loader:
        if isinstance(made, UserError):
            raise made
        yield made
