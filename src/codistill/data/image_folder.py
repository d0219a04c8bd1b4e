"""Folders of images: the user's own, and ImageNet; one folder per class, with or without a test part.

The files are listed here because torchvision's listing takes hidden folders (.git) for classes, reads hidden files, and
lists the images of a circular link many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from codistill.data.findings import Note
from codistill.data.gather import DEFAULT_SIZE, Labelled, gather
from codistill.data.listing import FOLLOW_LINKS, Tree, about_others, leads_out, subfolders
from codistill.data.pictures import FilePictures
from codistill.data.source import Parts, Request, cache_dir
from codistill.data.suffixes import is_image, left_out, looks_like_image, suffixes
from codistill.errors import UserError

__all__ = ["find", "find_imagenet", "load", "load_imagenet"]

_IMAGENET_SIZE = 224
_VALIDATION_NAMES = ("val", "valid", "validation")
_KNOWN_PARTS = ("train", "test", *_VALIDATION_NAMES)
_PART_NAMES = (*_KNOWN_PARTS, "training", "testing", "eval", "dev")


@dataclass
class _Listed:
    """The images of all parts, and every file and link beside them that is left out."""

    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)


@dataclass(frozen=True)
class _Layout:
    """The folders of the parts; without `test`, a share of the training images is set aside."""

    train: Path
    validation: Path | None
    test: Path | None
    notes: tuple[Note, ...] = ()


def find() -> str | None:
    """Return None: nothing is known about the user's images until `--data-dir` is given."""
    return None


def find_imagenet() -> str | None:
    """Return the folder `imagenet` in the cache, or None if it lacks a part."""
    folder = cache_dir() / "imagenet"
    return str(folder) if not _missing_parts(folder) else None


def load(request: Request) -> Parts:
    """Read DIR/train/<class>/*, DIR/val/<class>/* and DIR/test/<class>/*, or DIR/<class>/*.

    DIR/val (or valid, or validation) is the validation part, or `request.validation_dir` if that is given. If there is
    no DIR/test, DIR/val is the test part; if there is neither, 20 % of each class is set aside as the test set. The
    images in a class's subfolders belong to the class, as in torchvision's ImageFolder. Hidden files and folders are
    ignored, and so are files with other suffixes, which are counted. Images have 64 pixels if the user gives no size;
    `gather` says which ones stay in their files.

    Raises:
        UserError: there is no class folder, there are fewer than two classes, a class folder has no images or a name
            that is not UTF-8, a class is not in the training part, two folders could be the validation part, or images
            cannot be decoded.
    """
    assert request.data_dir is not None
    layout = _layout(request.data_dir, request)
    return _gathered(layout, request.data_dir, request)


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
    _refuse_linked_parts(folder, request)
    layout = _Layout(folder / "train", request.validation_dir, folder / "val")
    size = (_IMAGENET_SIZE, _IMAGENET_SIZE)
    return _gathered(layout, folder, request, size=size, channels=3, lazy=True)


def _missing_parts(folder: Path) -> list[str]:
    return [name for name in ("train", "val") if not subfolders(folder / name)]


def _refuse_linked_parts(folder: Path, request: Request) -> None:
    for path in (folder / name for name in _KNOWN_PARTS):
        if path.is_dir() and leads_out(path, folder) and not request.follow_links:
            raise UserError(
                f"{path} is a link that leaves {folder}, and such links are not followed: follow it with "
                f"{FOLLOW_LINKS}, or put the images themselves there."
            )


def _layout(folder: Path, request: Request) -> _Layout:
    given = request.validation_dir
    _refuse_linked_parts(folder, request)
    # A folder "train" that holds pictures is a class (of railways), not a part of the data.
    if not subfolders(folder / "train"):
        _refuse_unknown_parts(folder)
        return _Layout(folder, given, None)
    _refuse_unknown_parts(folder, _KNOWN_PARTS)
    found = [folder / name for name in _VALIDATION_NAMES if (folder / name).is_dir()]
    if len(found) > 1:
        raise UserError(
            f"{folder} has {' and '.join(path.name for path in found)}: both could be the validation part; keep one of "
            "them, or put them together."
        )
    train, test = folder / "train", folder / "test" if (folder / "test").is_dir() else None
    validation = found[0] if found else None
    notes = _unread(folder)
    if given is not None and validation is not None and given.resolve() == validation.resolve():
        validation = None
    if test is None and validation is not None:
        test, validation = validation, None
        notes += [Note(f"{folder} has no test folder: {test} is the test part")]
    if given is not None and validation is not None:
        notes += [Note(f"{validation} is not read: {given} is the validation part", warns=True)]
    elif validation is not None:
        notes += [Note(f"{validation} is the validation part")]
    return _Layout(train, given or validation, test, tuple(notes))


def _unread(folder: Path) -> list[Note]:
    others = [path.name for path in subfolders(folder) if path.name not in _KNOWN_PARTS]
    return [Note(f"folders of {folder} beside train and test are not read: {', '.join(others)}")] if others else []


def _gathered(
    layout: _Layout,
    folder: Path,
    request: Request,
    *,
    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE),
    channels: int | None = None,
    lazy: bool = False,
) -> Parts:
    classes = _class_names(layout.train)
    _refuse_same_folder(layout)
    left = _Listed()

    def tree(path: Path) -> Tree:
        # A validation folder that the user names is a root of its own.
        return Tree(folder if path.is_relative_to(folder) else path, request.follow_links)

    train = _part(tree(layout.train), layout.train, classes, classes, left)
    others: list[Labelled | None] = []
    for name, path in (("validation", layout.validation), ("test", layout.test)):
        if path is not None:
            names = [one.name for one in subfolders(path)]
            _refuse_new_classes(names, classes, layout.train, path, name)
            others.append(_part(tree(path), path, names, classes, left))
        else:
            others.append(None)
    validation, test = others
    notes = (*layout.notes, *_about_left_out(left, folder))
    return gather(
        train, test, tuple(classes), str(folder), request, validation=validation, notes=notes, size=size,
        channels=channels, lazy=lazy,
    )  # fmt: skip


def _refuse_same_folder(layout: _Layout) -> None:
    for name, path in (("training", layout.train), ("test", layout.test)):
        if path is not None and layout.validation is not None and path.resolve() == layout.validation.resolve():
            raise UserError(
                f"validation_dir {layout.validation} is the {name} part: give a folder of other images, or leave it "
                "out."
            )


def _part(tree: Tree, folder: Path, names: Sequence[str], classes: Sequence[str], left: _Listed) -> Labelled:
    listed = _list_images(tree, folder, names, classes)
    left.others += listed.others
    left.trees.append(tree)
    return Labelled(FilePictures(listed.paths), torch.tensor(listed.labels))


def _about_left_out(left: _Listed, folder: Path) -> list[Note]:
    notes = []
    if left.others:
        images = [path for path in left.others if looks_like_image(path)]
        places = sorted({str(path.parent.relative_to(folder)) if path.is_relative_to(folder) else str(path.parent)
                         for path in images})  # fmt: skip
        where = f"; images among them are in {', '.join(places[:3])}" if images else ""
        where += f" and {len(places) - 3} more folders" if len(places) > 3 else ""
        notes.append(Note(f"files left out: {left_out(left.others)}{where}", warns=bool(images)))
    return [*notes, *(Note(text, warns) for text, warns in about_others(left.trees))]


def _class_names(folder: Path) -> list[str]:
    names = [path.name for path in subfolders(folder)]
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


def _list_images(tree: Tree, folder: Path, names: Sequence[str], classes: Sequence[str]) -> _Listed:
    """All image files in the folders `names`, sorted, with their index in `classes` as label."""
    found = _Listed()
    label_of = {name: label for label, name in enumerate(classes)}
    for name in names:
        links = len(tree.outside)
        seen = sorted(tree.files_below(folder / name))
        files = [path for path in seen if is_image(path)]
        others = [path for path in seen if not is_image(path)]
        if not files:
            there = f"; it holds {left_out(others)}" if others else ""
            if count := len(tree.outside) - links:
                links_leave = "1 link leaves" if count == 1 else f"{count:,} links leave"
                there += f"; {links_leave} {tree.root}, such as {tree.outside[-1]}, and {FOLLOW_LINKS} follows them"
            raise UserError(
                f"{folder / name} has no images ({', '.join(sorted(suffixes()))}{there}): put images in the class "
                "folder, or remove it."
            )
        found.paths += files
        found.labels += [label_of[name]] * len(files)
        found.others += others
    return found


def _refuse_unknown_parts(folder: Path, known: Sequence[str] = ()) -> None:
    """Refuse DIR/Training/CLASS/*, DIR/Testing/CLASS/* and the like, which would be read as classes or ignored."""
    for path in subfolders(folder):
        if path.name.lower() in _PART_NAMES and path.name not in known and subfolders(path):
            raise UserError(
                f"{path} has subfolders and is named like a part of the data: if it is one, rename the parts to train, "
                "val and test, in lower case; if it is a class, give it another name."
            )


def _refuse_new_classes(names: Sequence[str], classes: Sequence[str], train_dir: Path, part: Path, what: str) -> None:
    new = [name for name in names if name not in classes]
    if new:
        raise UserError(
            f"{part} has the classes {', '.join(new)}, but {train_dir} does not: add training images of "
            f"them, or remove their {what} folders."
        )
    if not names:
        raise UserError(f"{part} has no class folders: add {what} images of the classes, or remove the folder.")
