"""The files in a folder of pictures, found without torch.

Whatever lies in a folder may come from someone else. A link in it can name any file of this machine, and a pipe makes
whoever opens it wait forever; so links that leave the folder are followed only on request, and only regular files are
opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FOLLOW_LINKS", "Tree", "about_others", "leads_out", "subfolders"]

FOLLOW_LINKS = "--follow-links (follow_links=True)"
"""What follows links that leave the folder, as messages name it."""


@dataclass
class Tree:
    """A folder that is searched, and what is passed over in it.

    Attributes:
        root: links that leave it are followed only if `follow`.
        follow: whether links that leave the root are followed.
        loops: links that lead back to a folder above them.
        outside: links that leave the root and are not followed.
        special: pipes, sockets and devices.
    """

    root: Path
    follow: bool = False
    loops: list[Path] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)
    special: list[Path] = field(default_factory=list)

    def files_below(self, folder: Path) -> Iterator[Path]:
        """All regular files in a folder and in its subfolders that are not hidden, each folder once."""
        start, root = _real(folder), _real(self.root)
        if not self.follow and not start.is_relative_to(root):
            self.outside.append(folder)
            return
        entered, waiting = {start}, [folder]
        while waiting:
            for entry in _entries(waiting.pop()):
                path, link = Path(entry.path), entry.is_symlink()
                if entry.is_file(follow_symlinks=False):  # Most of all; the others cost more calls of the system.
                    yield path
                    continue
                real = _real(path)
                if link and path.is_dir() and start.is_relative_to(real):
                    self.loops.append(path)
                elif link and not self.follow and not real.is_relative_to(root):
                    self.outside.append(path)
                elif path.is_dir():
                    if real not in entered:
                        entered.add(real)
                        waiting.append(path)
                # A broken link is said to be damaged when it is read.
                elif path.is_file() or (link and not path.exists()):
                    yield path
                else:
                    self.special.append(path)


def leads_out(path: Path, root: Path) -> bool:
    """Whether the path, with all its links followed, is outside the folder `root`."""
    return not _real(path).is_relative_to(_real(root))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones and links back to a folder above it; none in a file."""
    if not folder.is_dir():
        return []
    place = folder.resolve()
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not place.is_relative_to(path.resolve())
    )


def about_others(trees: Sequence[Tree]) -> list[tuple[str, bool]]:
    """Return a sentence for each kind of what was passed over, and whether the user hardly meant it."""
    loops, outside, special = ([path for tree in trees for path in getattr(tree, kind)]
                               for kind in ("loops", "outside", "special"))  # fmt: skip
    said = []
    if outside:
        one = len(outside) == 1
        links = "1 link that leaves" if one else f"{len(outside):,} links that leave"
        roots = " or ".join(dict.fromkeys(str(tree.root) for tree in trees if tree.outside))
        left = f"is left out, {outside[0]}" if one else f"are left out, such as {outside[0]}"
        said.append((f"{links} {roots} {left}: {FOLLOW_LINKS} follows them", True))
    if special:
        what = "1 pipe, socket or device is" if len(special) == 1 else f"{len(special):,} pipes, sockets or devices are"
        said.append((f"{what} left out, such as {special[0]}", True))
    if loops:
        said.append((f"links that lead back to a folder above them are not followed, such as {loops[0]}", False))
    return said


def _real(path: Path) -> Path:
    # Path.resolve raises an error for links in a circle.
    return Path(os.path.realpath(path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it cannot be read, as in os.walk."""
    try:
        with os.scandir(folder) as found:
            # macOS leaves a hidden "._x.jpg" next to x.jpg, which is not an image.
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError:
        return []
