"""Fashion-MNIST from its four IDX files: the user's, Debian's, the cache's, or downloaded by torchvision.

torchvision downloads the files and names the classes. Its reader is not used, because it takes only unpacked files in
its own folder FashionMNIST/raw and does not check them: see `idx`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codistill.data.download import fetch_into
from codistill.data.idx import read_idx
from codistill.data.source import Parts, Request, cache_dir
from codistill.data.types import ImageSet
from codistill.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import FashionMNIST

__all__ = ["SYSTEM_DIR", "find", "load"]

SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

_RAW = Path("FashionMNIST") / "raw"
_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def find() -> str | None:
    """Return the folder on this machine that holds all four files, or None."""
    folder = _first_complete(_usual_folders())
    return None if folder is None else str(folder)


def load(request: Request) -> Parts:
    """Return the images, 28 × 28 and grey.

    Raises:
        UserError: files are missing and cannot be downloaded, or are damaged, or do not belong together.
    """
    # Imported here because torchvision takes a second to import, and other data sets do not need it.
    from torchvision.datasets import FashionMNIST

    folder, classes = _folder(request, FashionMNIST), tuple(FashionMNIST.classes)
    train, test = (_read(folder, *names, len(classes)) for names in (_FILES[:2], _FILES[2:]))
    return Parts(train, test, classes, str(folder))


def _folder(request: Request, reader: type[FashionMNIST]) -> Path:
    """The folder that holds all four files, after a download if necessary."""
    if request.data_dir is not None:
        own = (request.data_dir, request.data_dir / _RAW)
        folder = _first_complete(own)
        if folder is None:
            lacking = min((_missing(place) for place in own), key=len)
            raise UserError(
                f"{request.data_dir} lacks {', '.join(lacking)} of Fashion-MNIST: put the files there, plain or with "
                ".gz, or leave out --data-dir."
            )
        return folder
    folder = _first_complete(_usual_folders())
    if folder is not None:
        return folder
    cache = cache_dir()
    remedy = (
        f"put {', '.join(_FILES)} (plain or .gz) into {cache}, give their folder with --data-dir, install Debian's "
        "dataset-fashion-mnist"
    )
    if not request.download:
        raise UserError(f"Fashion-MNIST is not on this machine: {remedy} or leave out --no-download.")
    fetch, failed = partial(reader, download=True), "Fashion-MNIST could not be downloaded"
    fetch_into(cache, fetch, str(_RAW), failed, f"{remedy} or try again")
    return cache / _RAW


def _usual_folders() -> tuple[Path, ...]:
    return SYSTEM_DIR, cache_dir(), cache_dir() / _RAW


def _first_complete(folders: tuple[Path, ...]) -> Path | None:
    return next((folder for folder in folders if not _missing(folder)), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in _FILES if _file(folder, name) is None]


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, images_name: str, labels_name: str, classes: int) -> ImageSet:
    images_path, labels_path = _file(folder, images_name), _file(folder, labels_name)
    assert images_path is not None
    assert labels_path is not None
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels) or not len(images):
        raise UserError(
            f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels: there must be "
            "one label per image and at least one image; get both files again."
        )
    if labels.max() >= classes:
        raise UserError(
            f"{labels_path} holds the label {int(labels.max())}: labels of Fashion-MNIST are 0 to {classes - 1}; get "
            "the file again."
        )
    return ImageSet(images.unsqueeze(1), labels.long())
