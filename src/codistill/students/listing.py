"""Which pictures the paths that a user gives stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codistill.data.listing import FOLLOW_LINKS, Tree, about_others
from codistill.data.suffixes import is_image, left_out, suffixes
from codistill.errors import UserError

__all__ = ["find_pictures"]


def find_pictures(paths: Sequence[Path | str], follow_links: bool = False) -> tuple[list[Path], list[str]]:
    """Return the picture files of these paths in their order, and sentences on what was left out.

    A file is taken whatever its suffix. Of a folder, the files with the suffixes of pictures are taken, also those in
    its subfolders, sorted by path; hidden files and folders are not, nor are links that leave the folder unless
    `follow_links`.

    Raises:
        UserError: a path does not exist or cannot be read, or there is no picture.
    """
    if not paths:
        raise UserError("no pictures are given: name some, or folders with pictures.")
    found: list[Path] = []
    others: list[Path] = []
    trees: list[Tree] = []
    for path in (Path(path).expanduser() for path in paths):
        if path.is_dir():
            trees.append(Tree(path, follow_links))
            below = _below(trees[-1])
            found += [file for file in below if is_image(file)]
            others += [file for file in below if not is_image(file)]
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: there is no such file or folder; give pictures, or folders with pictures.")
    if not found:
        there = f"; it holds {left_out(others)}" if others else ""
        outside = [link for tree in trees for link in tree.outside]
        there += f"; links that leave it, such as {outside[0]}, are followed with {FOLLOW_LINKS}" if outside else ""
        raise UserError(
            f"there is no picture in {', '.join(map(str, paths))} "
            f"({', '.join(sorted(suffixes()))}{there}): give pictures, or folders with pictures."
        )
    notes = [f"files left out: {left_out(others)}"] if others else []
    return found, [*notes, *(text for text, _ in about_others(trees))]


def _below(tree: Tree) -> list[Path]:
    try:
        next(tree.root.iterdir(), None)
    except OSError as error:
        raise UserError(f"{tree.root} cannot be read ({error.strerror}): make it readable.") from error
    return sorted(tree.files_below(tree.root))
