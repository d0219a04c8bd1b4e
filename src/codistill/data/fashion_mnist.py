"""Fashion-MNIST from its four IDX files: the user's, Debian's, the cache's, or downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path

from codistill.data.download import fetch_into
from codistill.data.idx import read_idx
from codistill.data.source import Parts, Request, cache_dir
from codistill.data.types import ImageSet
from codistill.errors import UserError

__all__ = ["CLASSES", "SYSTEM_DIR", "find", "load"]

SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_RAW = Path("FashionMNIST") / "raw"
_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def find() -> str | None:
    """Return the folder of this machine that holds all four files, or None."""
    folder = _first_complete(_usual_folders())
    return None if folder is None else str(folder)


def load(request: Request) -> Parts:
    """Return the images, 28 × 28 and grey.

    Raises:
        UserError: files are missing and cannot be downloaded, or are damaged, or do not go together.
    """
    folder = _folder(request)
    train, test = _read(folder, *_FILES[:2]), _read(folder, *_FILES[2:])
    return Parts(train, test, CLASSES, str(folder))


def _folder(request: Request) -> Path:
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
        f"put {', '.join(_FILES)} (plain or .gz) into {cache}, name their folder by --data-dir, install Debian's "
        "dataset-fashion-mnist"
    )
    if not request.download:
        raise UserError(f"Fashion-MNIST is not on this machine: {remedy} or leave out --no-download.")
    fetch_into(cache, _download, str(_RAW), "Fashion-MNIST could not be downloaded", f"{remedy} or try again")
    return cache / _RAW


def _download(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(folder, download=True)


def _usual_folders() -> tuple[Path, ...]:
    return SYSTEM_DIR, cache_dir(), cache_dir() / _RAW


def _first_complete(folders: tuple[Path, ...]) -> Path | None:
    return next((folder for folder in folders if not _missing(folder)), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in _FILES if _file(folder, name) is None]


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, images_name: str, labels_name: str) -> ImageSet:
    images_path, labels_path = _file(folder, images_name), _file(folder, labels_name)
    assert images_path is not None
    assert labels_path is not None
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels) or not len(images):
        raise UserError(
            f"{images_path} holds {len(images)} images and {labels_path} {len(labels)} labels: one label an image is "
            "needed and at least one image; get both files again."
        )
    if labels.max() >= len(CLASSES):
        raise UserError(
            f"{labels_path} holds the label {int(labels.max())}: labels of Fashion-MNIST are 0 to {len(CLASSES) - 1}; "
            "get the file again."
        )
    return ImageSet(images.unsqueeze(1), labels.long())
