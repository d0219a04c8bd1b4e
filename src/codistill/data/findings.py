"""What was noticed while the user's own images were read: sentences to say, sizes, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codistill.data.pictures import PictureError
from codistill.errors import UserError

__all__ = ["Findings", "Note", "refuse_bad", "skipped_note"]

_LISTED = 20


@dataclass(frozen=True)
class Note:
    """One sentence about what was ignored, guessed or left out; `warns` if the user hardly meant it."""

    text: str
    warns: bool = False


@dataclass(frozen=True)
class Findings:
    """What a loader noticed in the user's own images.

    Attributes:
        notes: in the order in which they are said.
        sizes: width and height in pixels of all images whose headers were read.
        skipped: by class name, how many images were left out because they cannot be decoded.
        test_names: the file of each test image, or where else it is from.
    """

    notes: tuple[Note, ...] = ()
    sizes: Sequence[tuple[int, int]] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    test_names: Sequence[str] = ()


def refuse_bad(bad: Sequence[PictureError]) -> None:
    """Raise UserError for pictures that cannot be decoded: the first 20 and their number."""
    if len(bad) == 1:
        raise bad[0]
    if bad:
        lines = [f"  {one.name} ({one.reason})" for one in bad[:_LISTED]]
        lines += [f"  and {len(bad) - _LISTED:,} more"] * (len(bad) > _LISTED)
        raise UserError(
            f"{len(bad):,} images cannot be decoded: replace or remove them, or leave them out with --bad-images "
            "skip:\n" + "\n".join(lines)
        )


def skipped_note(bad: Sequence[PictureError], names: Sequence[str]) -> Note:
    """Return the sentence for pictures that were left out; `names` holds the class of each."""
    per_class = ", ".join(f"{count:,} of {name}" for name, count in Counter(names).most_common(_LISTED))
    more = len(set(names)) - _LISTED
    per_class += f" and others of {more:,} classes" if more > 0 else ""
    images = "1 image that cannot be decoded is" if len(bad) == 1 else f"{len(bad):,} images that cannot be decoded are"
    return Note(f"{images} left out ({per_class}); the first is {bad[0].name} ({bad[0].reason})", warns=True)
