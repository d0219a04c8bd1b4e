"""Batches of pixels for training and evaluation, out of memory or decoded by processes that work ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from codistill.data.lazy import LazyImages
from codistill.data.normalise import Normaliser
from codistill.data.policy import AugmentPolicy
from codistill.data.types import Images, ImageSet
from codistill.data.views import crop_and_flip, finish_views
from codistill.errors import UserError

__all__ = ["default_workers", "evaluation_batches", "training_views"]

_LAZY_EVALUATION_BATCH = 64
_MOST_WORKERS = 8


def default_workers() -> int:
    """Processes that decode images where the user gives no number: one less than this process's cores, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cores - 1, _MOST_WORKERS), 0)


def training_views(
    images: Images,
    batches: Sequence[Tensor],
    policy: AugmentPolicy,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    views: int,
    generator: torch.Generator,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """One epoch of training images as the networks see them.

    Args:
        images: where they come from.
        batches: indices int64 [B] of every step.
        policy: how they are distorted; mixup and cutmix, which change labels too, are `mix_views`.
        mean: one number a channel, of images scaled to 0..1.
        std: likewise.
        views: V, how often each image is distorted anew.
        generator: CPU generator. Images in memory draw from it step by step; the crops of others draw one seed a step
            when the epoch begins, so that neither the number of processes nor how far they are ahead changes anything.
        workers: processes that decode images which are not in memory; 0: this one does.
        device: where the views go; images in memory are cropped there.

    Returns:
        (V views float32 [B, C, H, W] on the device, labels int64 [B] on the CPU) for every step; the views hold until
        the next step is asked for.

    Raises:
        UserError: there are several policies and not one a view, or an image cannot be decoded.
    """
    policy.check_views(views)
    # Workers send bytes, a quarter of the floats, and policies distort bytes; else a crop is normalised on the spot.
    on_the_spot = workers == 0 and device.type == "cpu" and not policy.distorts
    normaliser = Normaliser(mean, std, device) if on_the_spot else None
    memory = None
    for frames_VBCHW, labels_B in _frames(images, batches, policy, views, generator, workers, device, normaliser):
        if frames_VBCHW.dtype == torch.float32:
            yield frames_VBCHW.unbind(), labels_B
            continue
        if memory is None or memory.shape != frames_VBCHW.shape:
            # One piece of memory for all steps: a fresh one of this size costs as much as what is written into it.
            memory = torch.empty_like(frames_VBCHW, dtype=torch.float32, device=device)
        yield finish_views(frames_VBCHW, policy, mean, std, generator, device, memory), labels_B


def _frames(
    images: Images,
    batches: Sequence[Tensor],
    policy: AugmentPolicy,
    views: int,
    generator: torch.Generator,
    workers: int,
    device: torch.device,
    normaliser: Normaliser | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cropped and flipped images [V, B, C, H, W]: uint8, or of files that a normaliser is given for its float32."""
    if isinstance(images, ImageSet):
        for index_B in batches:
            chosen = images.images_NCHW[index_B].to(device, non_blocking=True)
            yield crop_and_flip(chosen, policy, views, generator), images.labels_N[index_B]
        return
    seeds = torch.randint(2**62, (len(batches),), generator=generator).tolist()
    jobs = _Training(images, batches, seeds, views, policy, normaliser)
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
        policy: AugmentPolicy,
        normaliser: Normaliser | None,
    ) -> None:
        super().__init__(images, batches)
        self.seeds, self.views, self.policy, self.normaliser = seeds, views, policy, normaliser
        self.last: Tensor | None = None

    def decode(self, step: int) -> Tensor:
        frames = self.images.decode_views(
            self.batches[step],
            self.views,
            self.policy.crop_min_area,
            self.policy.flip,
            torch.Generator().manual_seed(self.seeds[step]),
            self.normaliser,
            self.last,
        )
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
