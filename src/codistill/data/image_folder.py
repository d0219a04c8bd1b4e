"""Folders of images: the user's own, and ImageNet; one folder per class, with or without a test part.

The files are listed here because torchvision's listing takes hidden folders (.git) for classes, reads hidden files, and
lists the images of a circular link many times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from codistill.data.gather import Labelled, gather
from codistill.data.pictures import SUFFIXES, FilePictures
from codistill.data.source import Parts, Request, cache_dir
from codistill.errors import UserError

__all__ = ["find", "find_imagenet", "load", "load_imagenet"]

_IMAGENET_SIZE = 224
_PART_NAMES = ("train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev")

Entry = tuple[Path, int]
"""An image file and its label."""


def find() -> str | None:
    """Return None: nothing is known about the user's images until `--data-dir` is given."""
    return None


def find_imagenet() -> str | None:
    """Return the folder `imagenet` in the cache, or None if it lacks a part."""
    folder = cache_dir() / "imagenet"
    return str(folder) if not _missing_parts(folder) else None


def load(request: Request) -> Parts:
    """Read DIR/train/<class>/* and DIR/test/<class>/* (or DIR/val), or DIR/<class>/*.

    Without a test folder, 20 % of each class is set aside as the test set. If there is both DIR/test and DIR/val,
    DIR/val is not read: validation images are taken from the training part. The images in a class's subfolders belong
    to the class, as in torchvision's ImageFolder. Hidden files and folders are ignored, and so are files with other
    suffixes. Images have 64 pixels if the user gives no size; `gather` says which ones stay in their files.

    Raises:
        UserError: there is no class folder, there are fewer than two classes, a class folder has no images or a name
            that is not UTF-8, a class is only in the test part, or an image cannot be decoded.
    """
    assert request.data_dir is not None
    folder = request.data_dir
    train_dir, test_dir = folder / "train", None
    # A folder "train" that holds pictures is a class (of railways), not a part of the data.
    if not _subfolders(train_dir):
        train_dir = folder
        _refuse_unknown_parts(folder)
    else:
        test_dir = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
        if test_dir is None:
            _refuse_unknown_parts(folder, known=("train",))
    classes, train, test = _parts(train_dir, test_dir)
    return gather(train, test, classes, str(folder), request)


def load_imagenet(request: Request) -> Parts:
    """Read ImageNet's folders DIR/train/<class>/* and DIR/val/<class>/*; val, which has labels, is the test part.

    The folder is `--data-dir`, or `imagenet` in the cache. Images stay in their files; the default size is 224 pixels.

    Raises:
        UserError: a part is missing, or as for any folder of images.
    """
    folder = request.data_dir or cache_dir() / "imagenet"
    missing = _missing_parts(folder)
    if missing:
        raise UserError(
            f"ImageNet is not in {folder} (no {' and no '.join(missing)} with one folder per class): put its train and "
            "val folders there, or give their parent folder with --data-dir."
        )
    classes, train, test = _parts(folder / "train", folder / "val")
    size = (_IMAGENET_SIZE, _IMAGENET_SIZE)
    return gather(train, test, classes, str(folder), request, size=size, channels=3, lazy=True)


def _missing_parts(folder: Path) -> list[str]:
    return [name for name in ("train", "val") if not _subfolders(folder / name)]


def _parts(train_dir: Path, test_dir: Path | None) -> tuple[tuple[str, ...], Labelled, Labelled | None]:
    classes = _class_names(train_dir)
    train = _labelled(_list_images(train_dir, classes, classes))
    if test_dir is None:
        return tuple(classes), train, None
    names = [path.name for path in _subfolders(test_dir)]
    _refuse_new_classes(names, classes, train_dir, test_dir)
    return tuple(classes), train, _labelled(_list_images(test_dir, names, classes))


def _labelled(entries: Sequence[Entry]) -> Labelled:
    return Labelled(FilePictures([path for path, _ in entries]), torch.tensor([label for _, label in entries]))


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_names(folder: Path) -> list[str]:
    names = [path.name for path in _subfolders(folder)]
    if not names:
        raise UserError(
            f"{folder} has no class folders: put the images of each class in their own folder, DIR/train/CLASS or "
            "DIR/CLASS."
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the name of the class folder {name!r} in {folder} is not UTF-8: rename it.") from error
    if len(names) < 2:
        raise UserError(f"{folder} has only one class, {names[0]!r}: at least two are needed; add a class folder.")
    return names


def _list_images(folder: Path, names: Sequence[str], classes: Sequence[str]) -> list[Entry]:
    """All image files in the folders `names`, sorted, with their index in `classes` as label."""
    entries: list[Entry] = []
    label_of = {name: label for label, name in enumerate(classes)}
    for name in names:
        files = sorted(path for path in _files_below(folder / name) if _is_image(path))
        if not files:
            raise UserError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): put images in the class folder, or "
                "remove it."
            )
        entries += [(path, label_of[name]) for path in files]
    return entries


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in its subfolders that are not hidden; links are followed, but not in circles."""
    entered = {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = {name: Path(place, name).resolve() for name in folders if not name.startswith(".")}
        folders[:] = [name for name in real if real[name] not in entered]
        entered.update(real.values())
        yield from (Path(place, name) for name in files)


def _is_image(path: Path) -> bool:
    # macOS leaves a hidden "._x.jpg" next to x.jpg, which is not an image.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _refuse_unknown_parts(folder: Path, known: Sequence[str] = ()) -> None:
    """Refuse DIR/Training/CLASS/*, DIR/Testing/CLASS/* and the like, which would be read as classes or ignored."""
    for path in _subfolders(folder):
        if path.name.lower() in _PART_NAMES and path.name not in known and _subfolders(path):
            raise UserError(
                f"{path} has subfolders and is named like a part of the data: if it is one, rename the parts to train "
                "and test (or val), in lower case; if it is a class, give it another name."
            )


def _refuse_new_classes(names: Sequence[str], classes: Sequence[str], train_dir: Path, test_dir: Path) -> None:
    new = [name for name in names if name not in classes]
    if new:
        raise UserError(
            f"{test_dir} has the classes {', '.join(new)}, but {train_dir} does not: add training images of "
            "them, or remove their test folders."
        )
    if not names:
        raise UserError(f"{test_dir} has no class folders: add test images of the classes, or remove the folder.")
