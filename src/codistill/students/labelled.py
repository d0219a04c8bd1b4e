"""Another folder of labelled pictures, one folder per class, for a network whose classes are settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codistill.data.listing import FOLLOW_LINKS, Tree, about_others, subfolders
from codistill.data.suffixes import is_image, left_out
from codistill.errors import UserError

__all__ = ["LabelledFolder", "labelled_folder"]

PARTS = ("test", "val", "valid", "validation")
"""Folders that hold the class folders; the first that is there is read."""
LISTED = 20


@dataclass(frozen=True)
class LabelledFolder:
    """Pictures with their labels.

    Attributes:
        folder: it holds the class folders.
        paths: of the pictures, class after class, sorted.
        labels: indices into the network's classes.
        notes: sentences on what is not there and what is left out.
    """

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...]


def labelled_folder(data_dir: Path, classes: Sequence[str], follow_links: bool = False) -> LabelledFolder:
    """Find the pictures in DIR/CLASS, or in DIR/test/CLASS or DIR/val/CLASS, for the classes of a network.

    Links that leave DIR are left out unless `follow_links`.

    Raises:
        UserError: there is no such folder, it has a class folder that is none of `classes`, or no pictures.
    """
    if not data_dir.is_dir():
        raise UserError(f"data_dir {data_dir}: there is no such folder; give a folder with one folder per class.")
    folder, notes = _folder_of_classes(data_dir, classes)
    names = [path.name for path in subfolders(folder)]
    _refuse_others(folder, names, classes)
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    tree = Tree(data_dir, follow_links)
    for name in names:
        files = sorted(tree.files_below(folder / name))
        found = [file for file in files if is_image(file)]
        paths += found
        labels += [classes.index(name)] * len(found)
        others += [file for file in files if not is_image(file)]
    if not paths:
        there = f"; they hold {left_out(others)}" if others else ""
        if tree.outside:
            there += f"; links that leave {data_dir}, such as {tree.outside[0]}, are followed with {FOLLOW_LINKS}"
        raise UserError(f"the class folders in {folder} hold no pictures{there}: put pictures there.")
    missing = [name for label, name in enumerate(classes) if label not in set(labels)]
    if missing:
        notes.append(f"{len(missing)} of {len(classes)} classes have no pictures in {folder}: {_listed(missing)}")
    if others:
        notes.append(f"files left out: {left_out(others)}")
    notes += [text for text, _ in about_others([tree])]
    return LabelledFolder(folder, tuple(paths), tuple(labels), tuple(notes))


def _folder_of_classes(data_dir: Path, classes: Sequence[str]) -> tuple[Path, list[str]]:
    names = [path.name for path in subfolders(data_dir)]
    part = next((name for name in PARTS if name in names and name not in classes), None)
    if part is None or not subfolders(data_dir / part):
        return data_dir, []
    others = [name for name in names if name != part]
    notes = [f"{data_dir / part} is scored; folders beside it are not read: {_listed(others)}"] if others else []
    return data_dir / part, notes


def _refuse_others(folder: Path, names: Sequence[str], classes: Sequence[str]) -> None:
    if not names:
        raise UserError(f"{folder} has no class folders: put the pictures of each class in a folder of its name.")
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"{folder} has folders that are no classes of the run, {_listed(unknown)}: the run knows "
            f"{_listed(classes)}; rename these folders, or leave them out."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
