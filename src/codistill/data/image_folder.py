"""Folders of images: the user's own, and ImageNet; one folder a class, with or without a test part."""

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
    """Return None: nothing is known of the user's own images before `--data-dir`."""
    return None


def find_imagenet() -> str | None:
    """Return the folder `imagenet` in the cache if it has both parts, or None."""
    folder = cache_dir() / "imagenet"
    return str(folder) if not _missing_parts(folder) else None


def load(request: Request) -> Parts:
    """Read DIR/train/<class>/* and DIR/test/<class>/* (or DIR/val), or DIR/<class>/* with a fixed 20 % for the test.

    A class has the images of all folders below its own, as torchvision's ImageFolder takes them.
    Where both DIR/test and DIR/val are there, DIR/val is not read: validation images come out of the training part.
    DIR/train without either gives up a fixed 20 % too. What is hidden and files with other suffixes are ignored.
    Images are 64 pixels where the user gives no size; see `gather` for those that stay in their files.

    Raises:
        UserError: no class folder, fewer than two classes, a class folder without images or not named in UTF-8,
            classes that only the test part has, or an image that cannot be decoded.
    """
    assert request.data_dir is not None
    folder = request.data_dir
    train_dir, test_dir = folder / "train", None
    # A folder "train" of pictures is a class (of railways), not a part of the data.
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
    """ImageNet's usual folders DIR/train/<class>/* and DIR/val/<class>/*; val, whose labels are public, is the test.

    The folder is `--data-dir`, or `imagenet` in the cache. Images stay in their files, 224 pixels unless the user says
    otherwise.

    Raises:
        UserError: a part is missing, or as for any folder of images.
    """
    folder = request.data_dir or cache_dir() / "imagenet"
    missing = _missing_parts(folder)
    if missing:
        raise UserError(
            f"ImageNet is not in {folder} (no {' and no '.join(missing)} with one folder a class): put its train and "
            "val folders there, or name their parent by --data-dir."
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
            f"{folder} has no class folders: put the images of each class into a folder of its own, DIR/train/CLASS or "
            "DIR/CLASS."
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the class folder {name!r} of {folder} is not named in UTF-8: rename it.") from error
    if len(names) < 2:
        raise UserError(f"{folder} has the one class {names[0]!r}: at least two are needed; add a class folder.")
    return names


def _list_images(folder: Path, names: Sequence[str], classes: Sequence[str]) -> list[Entry]:
    """All image files of the folders `names`, sorted, with their labels by `classes`."""
    entries: list[Entry] = []
    label_of = {name: label for label, name in enumerate(classes)}
    for name in names:
        files = sorted(path for path in _files_below(folder / name) if _is_image(path))
        if not files:
            raise UserError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): put images into the class folder, or "
                "remove it."
            )
        entries += [(path, label_of[name]) for path in files]
    return entries


def _files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and of the folders in it that are not hidden; links are followed, but not in circles."""
    entered = {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = {name: Path(place, name).resolve() for name in folders if not name.startswith(".")}
        folders[:] = [name for name in real if real[name] not in entered]
        entered.update(real.values())
        yield from (Path(place, name) for name in files)


def _is_image(path: Path) -> bool:
    # macOS leaves a hidden "._x.jpg" beside x.jpg, which is no image.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _refuse_unknown_parts(folder: Path, known: Sequence[str] = ()) -> None:
    """Refuse DIR/Training/CLASS/*, DIR/Testing/CLASS/* and the like, taken for classes or for nothing."""
    for path in _subfolders(folder):
        if path.name.lower() in _PART_NAMES and path.name not in known and _subfolders(path):
            raise UserError(
                f"{path} has folders of its own and the name of a part: call the parts train and test (or val), in "
                "small letters, or give the class another name."
            )


def _refuse_new_classes(names: Sequence[str], classes: Sequence[str], train_dir: Path, test_dir: Path) -> None:
    new = [name for name in names if name not in classes]
    if new:
        raise UserError(
            f"{test_dir} has the classes {', '.join(new)} that {train_dir} lacks: add training images of them, or "
            "remove their test folders."
        )
    if not names:
        raise UserError(f"{test_dir} has no class folders: add test images of the classes, or remove the folder.")
