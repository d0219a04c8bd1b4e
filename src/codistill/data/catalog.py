"""All data sets by name, and the one function that loads any of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from codistill.data import cifar, digits, fashion_mnist, glyphs, image_folder
from codistill.data.pixels import MIN_SIDE, channel_statistics, check_memory, resize
from codistill.data.source import Parts, Request, Source
from codistill.data.types import AugmentPolicy, Dataset
from codistill.errors import UserError, unknown

__all__ = ["SOURCES", "available", "describe", "load"]

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
    "image_folder": Source(
        image_folder.load, image_folder.find, "your own images: --data-dir DIR with one folder a class", "required",
        classes=None, train_images=None, test_images=None, channels=None, image_size=None,
        crop_padding=None, flip=True, epochs=60,
    ),
}  # fmt: skip
"""Name -> where the images come from and what is known of them."""


def load(name: str, data_dir: Path | None = None, *, image_size: int | None = None, download: bool = True) -> Dataset:
    """Load a data set into memory.

    Args:
        name: one of `available()`.
        data_dir: folder with the data set's files, and then only that is looked at; None: the usual places, and a
            download into `$CODISTILL_DATA` (or `~/.cache/codistill`) where they have nothing.
        image_size: side in pixels. A folder of images is decoded at it (64 by default), other data is resized to it
            (bilinear with antialias).
        download: whether missing files may be downloaded.

    Raises:
        UserError: an unknown name; a folder that is missing, empty, or given to data that has none; files that are
            missing, damaged or do not go together; images below 8 pixels or too many for memory.
    """
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    if image_size is not None and image_size < MIN_SIDE:
        raise UserError(f"image_size {image_size}: give at least {MIN_SIDE} pixels.")
    source = SOURCES[name]
    parts = source.load(Request(_checked_dir(name, source, data_dir), image_size, download))
    if image_size is not None:
        parts = _resized(parts, image_size)
    size = parts.train.images_NCHW.shape[-1]
    mean, std = source.mean_std or channel_statistics(parts.train.images_NCHW)
    padding = size // 8 if source.crop_padding is None else source.crop_padding
    augment = AugmentPolicy(padding, source.flip)
    return Dataset(name, parts.train, parts.test, parts.classes, mean, std, augment, source.epochs, parts.found_at)


def available() -> list[str]:
    """Names of all data sets."""
    return list(SOURCES)


def describe() -> list[dict[str, str | int | None]]:
    """One record a data set, ready for JSON, without loading or downloading anything.

    Keys: name, description, classes, train_images, test_images, channels, image_size (pixels), epochs, data_dir
    ("refused", "optional", "required"), found_at (where it is on this machine, or None). Numbers are None where the
    user's own files decide.
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
        for name, source in SOURCES.items()
    ]


def _checked_dir(name: str, source: Source, data_dir: Path | None) -> Path | None:
    if data_dir is None:
        if source.data_dir == "required":
            raise UserError(f"data set {name!r} without a folder: name the folder of your images by --data-dir.")
        return None
    if source.data_dir == "refused":
        raise UserError(f"data_dir {data_dir} with {name!r}: this data comes with the install; leave out --data-dir.")
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"data_dir {data_dir}: there is no such folder; correct the path or create it.")
    try:
        empty = not any(folder.iterdir())
    except OSError as error:
        raise UserError(f"data_dir {data_dir} cannot be read ({error.strerror}): make it readable.") from error
    if empty:
        raise UserError(f"data_dir {data_dir}: the folder is empty; put the files of {name!r} there.")
    return folder


def _resized(parts: Parts, size: int) -> Parts:
    check_memory(len(parts.train) + len(parts.test), parts.train.images_NCHW.shape[1], size)
    return Parts(resize(parts.train, size), resize(parts.test, size), parts.classes, parts.found_at)
