"""CIFAR-10 and CIFAR-100: a wrapper around torchvision's readers, which check the MD5 sum of every file.

torchvision says only that something is missing or damaged. This module says which file it is and what to do about it.
It also takes the archive or the unpacked folder from wherever the user keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from codistill.data.download import fetch_into
from codistill.data.source import Parts, Request, cache_dir
from codistill.data.types import ImageSet
from codistill.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

__all__ = ["find", "load"]

Variant = Literal["CIFAR10", "CIFAR100"]


def find(variant: Variant) -> str | None:
    """Return the folder or archive in the cache, unread, or None."""
    reader = _reader(variant)
    places = (cache_dir() / reader.base_folder, cache_dir() / reader.filename)
    return next((str(place) for place in places if place.exists()), None)


def load(request: Request, variant: Variant) -> Parts:
    """Return the images, 32 × 32 and RGB; CIFAR-100 with its 100 fine labels.

    Raises:
        UserError: the data is missing and cannot be downloaded, or a file is damaged.
    """
    reader = _reader(variant)
    root = _extracted(reader, request)
    try:
        train, test = reader(root, train=True), reader(root, train=False)
    except RuntimeError:
        meta = (reader.meta["filename"], reader.meta["md5"])
        for name, md5 in (*reader.train_list, *reader.test_list, meta):
            _check(root / reader.base_folder / name, md5, f"delete the folder and unpack {reader.filename} again")
        raise
    return Parts(_images(train), _images(test), tuple(train.classes), str(root / reader.base_folder))


def _reader(variant: Variant) -> type[CIFAR10]:
    # Imported here because torchvision takes a second to import, and other data sets do not need it.
    from torchvision import datasets

    return getattr(datasets, variant)


def _extracted(reader: type[CIFAR10], request: Request) -> Path:
    """The folder that contains the reader's own folder, after unpacking or downloading it if necessary."""
    from torchvision.datasets.utils import extract_archive

    root = request.data_dir or cache_dir()
    if root.name == reader.base_folder:
        root = root.parent
    if (root / reader.base_folder).is_dir():
        return root
    archive, name = root / reader.filename, reader.__name__
    fetch: Callable[[Path], object]
    if archive.is_file():
        _check(archive, reader.tgz_md5, "get the archive again")
        fetch = partial(extract_archive, archive)
        failed, remedy = f"{archive} could not be unpacked", "make its folder writable or unpack it yourself"
    elif request.data_dir is not None:
        raise UserError(
            f"{request.data_dir} holds neither {reader.filename} nor {reader.base_folder}: put one of them there, or "
            "leave out --data-dir."
        )
    else:
        fetch = partial(reader, download=True)
        failed = f"{name} could not be downloaded"
        remedy = f"put {reader.filename} into {root} or give its folder with --data-dir"
        if not request.download:
            raise UserError(f"{name} is not on this machine: {remedy}, or leave out --no-download.")
    fetch_into(root, fetch, reader.base_folder, failed, remedy)
    return root


def _check(path: Path, md5: str, remedy: str) -> None:
    """Raise UserError if the file is missing or does not have its published MD5 sum."""
    from torchvision.datasets.utils import check_integrity

    if not path.is_file():
        raise UserError(f"{path} is missing: {remedy}.")
    if not check_integrity(path, md5):
        raise UserError(
            f"{path} is truncated or damaged: its {path.stat().st_size} bytes do not have the published MD5 sum {md5}; "
            f"{remedy}."
        )


def _images(read: CIFAR10) -> ImageSet:
    images = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(read.targets))
