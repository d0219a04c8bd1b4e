"""All data sets by name, and the function that loads any of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from codistill.data import cifar, digits, fashion_mnist, glyphs, image_folder, tables
from codistill.data.drawn import DrawnImages
from codistill.data.from_torch import MapDataset, load_torch
from codistill.data.gather import spread_sample
from codistill.data.lazy import LazyImages
from codistill.data.pixels import MEMORY_LIMIT, MIN_SIDE, channel_statistics, check_memory, resize
from codistill.data.policy import AugmentPolicy
from codistill.data.source import Parts, Request, Source
from codistill.data.types import Dataset, Images
from codistill.errors import UserError, unknown

__all__ = ["SOURCES", "available", "check_name", "describe", "from_torch", "load"]

SOURCES: dict[str, Source] = {
    "digits": Source(
        digits.load, digits.find, "scikit-learn's handwritten digits, 8 × 8 grey; no download", "refused",
        classes=10, train_images=1438, test_images=359, channels=1, image_size=8,
        crop_padding=1, flip=False, epochs=40,
    ),
    "glyphs": Source(
        glyphs.load, glyphs.find, "Glyphs-100: characters in 649 font faces, 32 × 32 grey; no download", "refused",
        classes=100, train_images=44867, test_images=12525, channels=1, image_size=32,
        crop_padding=2, flip=False, epochs=30,
    ),
    "fashion_mnist": Source(
        fashion_mnist.load, fashion_mnist.find, "Fashion-MNIST: clothes, 28 × 28 grey", "optional",
        classes=10, train_images=60000, test_images=10000, channels=1, image_size=28,
        crop_padding=2, flip=True, epochs=20,
    ),
    "cifar10": Source(
        partial(cifar.load, variant="CIFAR10"), partial(cifar.find, "CIFAR10"),
        "CIFAR-10: animals and vehicles, 32 × 32 RGB", "optional",
        classes=10, train_images=50000, test_images=10000, channels=3, image_size=32,
        crop_padding=4, flip=True, epochs=300,
        mean_std=((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
    "cifar100": Source(
        partial(cifar.load, variant="CIFAR100"), partial(cifar.find, "CIFAR100"),
        "CIFAR-100: 100 kinds of objects, 32 × 32 RGB", "optional",
        classes=100, train_images=50000, test_images=10000, channels=3, image_size=32,
        crop_padding=4, flip=True, epochs=300,
        mean_std=((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
    "imagenet": Source(
        image_folder.load_imagenet, image_folder.find_imagenet,
        "ImageNet's train and val folders (val is the test part), 224 × 224 RGB; no download", "optional",
        classes=1000, train_images=1281167, test_images=50000, channels=3, image_size=224,
        crop_padding=None, flip=True, epochs=90,
        mean_std=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ),
    "image_folder": Source(
        image_folder.load, image_folder.find, "your own images: --data-dir DIR with one folder per class", "required",
        crop_padding=None, flip=True, epochs=60,
    ),
    "hf": Source(
        tables.load_hub, tables.find, "a data set from the Hugging Face hub or a local folder (extra hf)", "refused",
        crop_padding=None, flip=True, epochs=60, place="NAME",
    ),
    "parquet": Source(
        tables.load_parquet, tables.find, "a local parquet file, or a folder as Hugging Face writes it (extra hf)",
        "refused", crop_padding=None, flip=True, epochs=60, place="PATH",
    ),
}  # fmt: skip
"""Name -> where the images come from and what is known about them."""


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    image_size: int | None = None,
    download: bool = True,
    memory: float = MEMORY_LIMIT / 2**30,
    validation_dir: Path | None = None,
    bad_images: str = "stop",
    follow_links: bool = False,
) -> Dataset:
    """Load a data set into memory, or find its files if they are too many or too large for memory.

    Args:
        name: one of `available()`.
        data_dir: folder with the data set's files; no other place is searched then. None: search the usual places, and
            download into `$CODISTILL_DATA` (or `~/.cache/codistill`) if the data is not there.
        image_size: side in pixels. Folders and tables of images are decoded at this size (default 64, ImageNet 224);
            other data is resized to it (bilinear with antialias).
        download: whether missing files may be downloaded.
        memory: GiB that the images may take. Folders and tables that need more, or whose images have 128 pixels or
            more, are decoded again in every step. Other data that needs more is refused.
        validation_dir: a folder of validation images, for folders of images only.
        bad_images: "stop" to refuse images that cannot be decoded, "skip" to leave them out.
        follow_links: whether links that leave the folder are followed, of folders and tables of images.

    Raises:
        UserError: the name is unknown; the folder is missing, empty, or given for data that takes none; files are
            missing, damaged or do not belong together; images cannot be decoded, are below 8 pixels or do not fit into
            memory.
    """
    kind, place = check_name(name)
    source = SOURCES[kind]
    request = _request(image_size, memory, download, _checked_dir(kind, source, data_dir), place)
    if validation_dir is not None:
        validation_dir = _existing_folder("validation_dir", validation_dir)
    skip = bad_images == "skip"
    request = replace(request, validation_dir=validation_dir, skip_bad=skip, follow_links=follow_links)
    return _dataset(name, source.load(request), source, request)


def from_torch(
    given: MapDataset | Sequence[MapDataset],
    *,
    image_size: int | None = None,
    memory: float = MEMORY_LIMIT / 2**30,
    bad_images: str = "stop",
) -> Dataset:
    """Take a map-style torch Dataset of (image, label), (train, test), or (train, validation, test); see `load_torch`.

    Args:
        given: the data.
        image_size: side in pixels to which images are resized; None: keep their size, which must then be the same for
            all of them.
        memory: as in `load`.
        bad_images: as in `load`.

    Raises:
        UserError: items, labels or images do not have the form that `load_torch` describes.
    """
    request = replace(_request(image_size, memory, False), skip_bad=bad_images == "skip")
    return _dataset("torch", load_torch(given, request), SOURCES["image_folder"], request)


def check_name(name: str) -> tuple[str, str]:
    """Split a name into its key in `SOURCES` and what follows the colon: "parquet:my/file" -> ("parquet", "my/file").

    Raises:
        UserError: there is no such data set, or what follows the colon is missing or must not be there.
    """
    kind, colon, place = name.partition(":")
    if kind not in SOURCES or (colon and SOURCES[kind].place is None):
        raise unknown("data set", name, available())
    if SOURCES[kind].place is not None and not place:
        raise UserError(f"data set {name!r} is incomplete: write {kind}:{SOURCES[kind].place}.")
    return kind, place


def available() -> list[str]:
    """The names of all data sets."""
    return [kind if source.place is None else f"{kind}:{source.place}" for kind, source in SOURCES.items()]


def describe() -> list[dict[str, str | int | None]]:
    """One record per data set, ready for JSON; nothing is loaded or downloaded.

    Keys: name, description, classes, train_images, test_images, channels, image_size (pixels), epochs, data_dir
    ("refused", "optional", "required"), found_at (where it is on this machine, or None). Numbers are None if they
    depend on the user's files.
    """
    return [
        {
            "name": name,
            "description": source.description,
            "classes": source.classes,
            "train_images": source.train_images,
            "test_images": source.test_images,
            "channels": source.channels,
            "image_size": source.image_size,
            "epochs": source.epochs,
            "data_dir": source.data_dir,
            "found_at": source.find(),
        }
        for name, source in zip(available(), SOURCES.values(), strict=True)
    ]


def _checked_dir(name: str, source: Source, data_dir: Path | None) -> Path | None:
    if data_dir is None:
        if source.data_dir == "required":
            raise UserError(f"data set {name!r} needs a folder: give the folder of your images with --data-dir.")
        return None
    if source.place is not None:
        raise UserError(f"data_dir {data_dir} with {name!r}: write {name}:{source.place} and leave out --data-dir.")
    if source.data_dir == "refused":
        raise UserError(f"data_dir {data_dir} with {name!r}: this data comes with the package; leave out --data-dir.")
    return _existing_folder("data_dir", data_dir, f"the files of {name!r}")


def _existing_folder(setting: str, given: Path, files: str = "validation images") -> Path:
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(f"{setting} {given}: there is no such folder; correct the path or create it.")
    try:
        empty = not any(folder.iterdir())
    except OSError as error:
        raise UserError(f"{setting} {given} cannot be read ({error.strerror}): make it readable.") from error
    if empty:
        raise UserError(f"{setting} {given}: the folder is empty; put {files} there.")
    return folder


def _request(
    image_size: int | None, memory: float, download: bool, folder: Path | None = None, place: str = ""
) -> Request:
    if image_size is not None and image_size < MIN_SIDE:
        raise UserError(f"image_size {image_size}: give at least {MIN_SIDE} pixels.")
    if memory < 0:
        raise UserError(f"data_memory {memory}: give 0 or more GiB.")
    return Request(folder, image_size, download, int(memory * 2**30), place)


def _dataset(name: str, parts: Parts, source: Source, request: Request) -> Dataset:
    for note in () if parts.findings is None else parts.findings.notes:
        if note.warns:
            warnings.warn(note.text, stacklevel=3)
    size = request.image_size
    if size is not None and not isinstance(parts.train, LazyImages):
        channels = parts.train.shape[0]
        check_memory(len(parts.train) + len(parts.test), channels, size, request.memory)
        parts = replace(parts, train=_resized(parts.train, size), test=_resized(parts.test, size))
    mean, std = source.mean_std or _statistics(parts.train, len(parts.train) - parts.validation_images)
    if isinstance(parts.train, LazyImages):
        padding = 0
    else:
        padding = parts.train.shape[-1] // 8 if source.crop_padding is None else source.crop_padding
    # A Dataset that draws at random has its own augmentation, flips where they do no harm among it.
    augment = AugmentPolicy(padding, source.flip and not isinstance(parts.train, DrawnImages))
    return Dataset(
        name, parts.train, parts.test, parts.classes, mean, std, augment, source.epochs, parts.found_at,
        parts.validation_images, parts.findings, parts.resize,
    )  # fmt: skip


def _resized(images: Images, size: int) -> Images:
    return images if isinstance(images, LazyImages) else resize(images, size)


def _statistics(images: Images, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel over the first `count` images, or a sample if they are not in memory."""
    if isinstance(images, LazyImages):
        return channel_statistics(images.decode(spread_sample(torch.arange(count))))
    return channel_statistics(images.images_NCHW[:count])
