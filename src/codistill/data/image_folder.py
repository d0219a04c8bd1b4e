"""The user's own images: one folder a class, with or without a test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from codistill.data.decode import SUFFIXES, decode_images
from codistill.data.source import Parts, Request
from codistill.data.split import fixed_test_split
from codistill.data.types import ImageSet
from codistill.errors import UserError

__all__ = ["DEFAULT_SIZE", "find", "load"]

DEFAULT_SIZE = 64
"""Side of the images in pixels where the user gives none."""

Entry = tuple[Path, int]
"""An image file and its label."""


def find() -> str | None:
    """Return None: nothing is known of the user's own images before `--data-dir`."""
    return None


def load(request: Request) -> Parts:
    """Read DIR/train/<class>/* and DIR/test/<class>/* (or DIR/val), or DIR/<class>/* with a fixed 20 % for the test.

    Where both DIR/test and DIR/val are there, DIR/val is not read: validation images come out of the training part.
    DIR/train without either gives up a fixed 20 % too. Hidden folders and files with other suffixes are ignored.

    Raises:
        UserError: no class folder, fewer than two classes, a class folder without images, classes that only the test
            part has, an image that cannot be decoded, or images that do not fit into memory.
    """
    assert request.data_dir is not None
    classes, train, test = _entries(request.data_dir)
    paths = [path for path, _ in train + test]
    images_NCHW = decode_images(paths, request.image_size or DEFAULT_SIZE)
    labels_N = torch.tensor([label for _, label in train + test])
    n = len(train)
    return Parts(
        ImageSet(images_NCHW[:n], labels_N[:n]),
        ImageSet(images_NCHW[n:], labels_N[n:]),
        tuple(classes),
        str(request.data_dir),
    )


def _entries(folder: Path) -> tuple[list[str], list[Entry], list[Entry]]:
    train_dir = folder / "train"
    # A folder "train" of pictures is a class (of railways), not a part of the data.
    if not _subfolders(train_dir):
        train_dir, test_dir = folder, None
    else:
        test_dir = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)
    classes = _class_names(train_dir)
    train = _list_images(train_dir, classes, classes)
    if test_dir is not None:
        names = [path.name for path in _subfolders(test_dir)]
        _refuse_new_classes(names, classes, train_dir, test_dir)
        return classes, train, _list_images(test_dir, names, classes)
    kept, drawn = fixed_test_split(torch.tensor([label for _, label in train]))
    return classes, [train[i] for i in kept], [train[i] for i in drawn]


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
    if len(names) < 2:
        raise UserError(f"{folder} has the one class {names[0]!r}: at least two are needed; add a class folder.")
    return names


def _list_images(folder: Path, names: Sequence[str], classes: Sequence[str]) -> list[Entry]:
    """All image files of the folders `names`, sorted, with their labels by `classes`."""
    entries: list[Entry] = []
    for name in names:
        files = sorted(path for path in (folder / name).iterdir() if _is_image(path))
        if not files:
            raise UserError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): put images directly into the class "
                "folder, or remove it."
            )
        entries += [(path, classes.index(name)) for path in files]
    return entries


def _is_image(path: Path) -> bool:
    # macOS leaves a hidden "._x.jpg" beside x.jpg, which is no image.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _refuse_new_classes(names: Sequence[str], classes: Sequence[str], train_dir: Path, test_dir: Path) -> None:
    new = [name for name in names if name not in classes]
    if new:
        raise UserError(
            f"{test_dir} has the classes {', '.join(new)} that {train_dir} lacks: add training images of them, or "
            "remove their test folders."
        )
    if not names:
        raise UserError(f"{test_dir} has no class folders: add test images of the classes, or remove the folder.")
