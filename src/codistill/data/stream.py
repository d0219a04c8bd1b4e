"""Batches of pixels for training and evaluation, from memory or decoded by processes that work ahead."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from codistill.data.lazy import LazyImages
from codistill.data.normalise import Normaliser
from codistill.data.policy import AugmentPolicy
from codistill.data.types import Images, ImageSet
from codistill.data.views import crop_and_flip, finish_views
from codistill.data.workers import TIMEOUT, load_ahead
from codistill.errors import UserError

__all__ = ["default_workers", "evaluation_batches", "training_views"]

Rows = Callable[[int], slice]

_LAZY_EVALUATION_BATCH = 64
_MOST_WORKERS = 8


def default_workers() -> int:
    """How many processes decode images if the user gives no number: one fewer than the cores, at most 8."""
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
    go_on: tuple[int, Tensor] | None = None,
    timeout: float = TIMEOUT,
    rows: Rows | None = None,
) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Yield one epoch of training images as the networks see them.

    Args:
        images: all training images, in files, in memory or on the device.
        batches: the indices of each step, int64 [B].
        policy: how images are distorted; mixup and cutmix, which also change the labels, are applied by `mix_views`.
        mean: one number per channel, for images scaled to 0..1.
        std: likewise.
        views: V, the number of distortions of each image.
        generator: CPU generator. Images in memory draw from it step by step. For all others, one seed per step is drawn
            when the epoch begins, so that the number of processes and how far they are ahead change nothing.
        workers: processes that decode images which are not in memory; 0: this process does it.
        device: where the views go; images in memory are cropped there.
        go_on: how many steps to leave out, and the generator's state after them; the generator must be in the state in
            which the epoch began.
        timeout: seconds without a batch after which a process of `workers` hangs.
        rows: which images of a batch of so many are read from files; the views of the others hold anything. None: all.

    Returns:
        (V views float32 [B, C, H, W] on the device, labels int64 [B] where those of `images` are) for every step. The
        next step overwrites the views.

    Raises:
        UserError: there is more than one policy, but not one per view, or an image cannot be decoded.
        RunFailedError: a process of `workers` has died or hangs.
    """
    policy.check()
    policy.check_views(views)
    # Processes send uint8, a quarter of the bytes, and policies distort uint8. Otherwise crops are normalised at once.
    on_the_spot = workers == 0 and device.type == "cpu" and not policy.distorts
    normaliser = Normaliser(mean, std, device) if on_the_spot else None
    memory = None
    frames = _frames(images, batches, policy, views, generator, workers, device, normaliser, go_on, timeout, rows)
    for frames_VBCHW, labels_B in frames:
        if frames_VBCHW.dtype == torch.float32:
            yield frames_VBCHW.unbind(), labels_B
            continue
        if memory is None or memory.shape != frames_VBCHW.shape:
            # The same memory for all steps: allocating it takes as long as writing the views into it.
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
    go_on: tuple[int, Tensor] | None,
    timeout: float,
    rows: Rows | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cropped and flipped images [V, B, C, H, W]: uint8, or float32 from files if there is a normaliser."""
    # All of them, since the seeds of an epoch are drawn together.
    seeds = [] if isinstance(images, ImageSet) else torch.randint(2**62, (len(batches),), generator=generator).tolist()
    if go_on is not None:
        done, state = go_on
        batches, seeds = batches[done:], seeds[done:]
        generator.set_state(state)
        if not batches:
            return
    if isinstance(images, ImageSet):
        # One copy for all steps: copying the indices of each would delay it.
        index_M = torch.cat(list(batches)).to(images.images_NCHW.device)
        for index_B in index_M.split([len(index_B) for index_B in batches]):
            chosen = images.images_NCHW[index_B].to(device, non_blocking=True)
            yield crop_and_flip(chosen, policy, views, generator), images.labels_N[index_B]
        return
    jobs = _Training(images, batches, seeds, views, policy, normaliser, rows)
    for index_B, frames in zip(batches, _load(jobs, workers, device, timeout), strict=True):
        yield frames, images.labels_N[index_B]


def evaluation_batches(
    images: Images,
    batch_size: int,
    workers: int,
    device: torch.device,
    timeout: float = TIMEOUT,
    rows: Rows | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order and undistorted, uint8 [n, C, H, W] with n at most `batch_size`, and their labels.

    `workers`, `timeout`, `rows` and the errors are those of `training_views`.
    """
    if isinstance(images, ImageSet):
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            yield images.images_NCHW[part], images.labels_N[part]
        return
    batches = torch.arange(len(images)).split(min(batch_size, _LAZY_EVALUATION_BATCH))
    for index_B, pixels in zip(
        batches, _load(_Evaluation(images, batches, rows), workers, device, timeout), strict=True
    ):
        yield pixels, images.labels_N[index_B]


class _Evaluation(TorchDataset[Tensor | UserError]):
    def __init__(self, images: LazyImages, batches: Sequence[Tensor], rows: Rows | None) -> None:
        self.images, self.batches, self.rows = images, batches, rows

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Tensor | UserError:
        # An error that is raised here would reach the user inside a worker's traceback.
        try:
            return self.decode(step)
        except UserError as error:
            return error

    def decode(self, step: int) -> Tensor:
        index_B, rows = self.batches[step], self._rows(step)
        pixels = self.images.decode(index_B[rows])
        if len(pixels) == len(index_B):
            return pixels
        whole = pixels.new_zeros(len(index_B), *pixels.shape[1:])
        whole[rows] = pixels
        return whole

    def _rows(self, step: int) -> slice:
        return slice(None) if self.rows is None else self.rows(len(self.batches[step]))


class _Training(_Evaluation):
    def __init__(
        self,
        images: LazyImages,
        batches: Sequence[Tensor],
        seeds: Sequence[int],
        views: int,
        policy: AugmentPolicy,
        normaliser: Normaliser | None,
        rows: Rows | None,
    ) -> None:
        super().__init__(images, batches, rows)
        self.seeds, self.views, self.policy, self.normaliser = seeds, views, policy, normaliser
        self.last: Tensor | None = None

    def decode(self, step: int) -> Tensor:
        frames = self.images.decode_views(
            self.batches[step],
            self.views,
            self.policy.crop_min_area,
            bool(self.policy.flip),
            torch.Generator().manual_seed(self.seeds[step]),
            self.normaliser,
            self.last,
            self._rows(step),
        )
        # What a process of the loader has sent belongs to the receiver.
        self.last = frames if get_worker_info() is None else None
        return frames


def _load(jobs: _Evaluation, workers: int, device: torch.device, timeout: float) -> Iterator[Tensor]:
    for made in load_ahead(jobs, len(jobs), workers, device.type == "cuda", timeout):
        if isinstance(made, UserError):
            raise made
        yield made
