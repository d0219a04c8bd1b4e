"""Turns pictures with labels into the parts of a data set: in memory if they fit, otherwise left in their files.

torchvision's loader is not used: it ignores the EXIF orientation, clips 16 bits at 255 and always returns RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codistill.data.decode import Header, decode_images, read_headers, try_decoding
from codistill.data.drawn import DrawnImages
from codistill.data.findings import Findings, Note, refuse_bad, skipped_note
from codistill.data.lazy import LazyImages
from codistill.data.pictures import JoinedPictures, PictureError, PictureReader, Pictures
from codistill.data.source import Parts, Request
from codistill.data.split import fixed_test_split
from codistill.data.types import Images, ImageSet, Resize
from codistill.errors import UserError

__all__ = ["CHECKED", "DEFAULT_SIZE", "LARGE", "SAMPLE", "Labelled", "gather", "spread_sample", "stays_out"]

DEFAULT_SIZE = 64
"""Side of the images in pixels if neither the user nor the data gives one."""
LARGE = 128
"""Images with this side or more are decoded again in every step: their random crops need the whole picture."""
SAMPLE = 1024
"""How many images are read for colour, mean and deviation if there are too many to read all of them."""
CHECKED = 50_000
"""Up to this number, the headers of all training images are read; of more, those of a sample."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with their labels, int64 [N]."""

    pictures: Pictures
    labels_N: Tensor


@dataclass(eq=False)
class _Section:
    """Pictures that become one `Images`, while they are looked at; all keys and positions count within the section."""

    pictures: Pictures
    index_N: Tensor
    labels_N: Tensor
    training: int
    """How many of the first pictures are trained on; the others are for validation or test."""
    headers: dict[int, Header] = field(default_factory=dict)
    bad: dict[int, PictureError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index_N)

    def note(self, positions: Sequence[int], found: Sequence[Header | PictureError]) -> None:
        for position, one in zip(positions, found, strict=True):
            if isinstance(one, PictureError):
                self.bad[position] = one
            else:
                self.headers[position] = one

    def good(self) -> list[int]:
        return [position for position in range(len(self)) if position not in self.bad]

    def indices(self, positions: Sequence[int]) -> list[int]:
        return self.index_N[list(positions)].tolist()


def gather(
    train: Labelled,
    test: Labelled | None,
    classes: tuple[str, ...],
    found_at: str,
    request: Request,
    *,
    validation: Labelled | None = None,
    notes: Sequence[Note] = (),
    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE),
    channels: int | None = None,
    lazy: bool = False,
    fixed: bool = False,
) -> Parts:
    """Return both parts, in memory if the images are below `LARGE` pixels and take at most `request.memory` bytes.

    Args:
        train: training pictures.
        test: test pictures; None: set aside a fixed 20 % of the training pictures.
        classes: names by label.
        found_at: where the data is.
        request: the user's image size and memory, and whether bad pictures are left out.
        validation: validation pictures; None: the run splits them off the training part.
        notes: what the loader has noticed so far.
        size: height and width in pixels if the user gives no size.
        channels: 1 or 3; None: 1 if all pictures are grey, else 3. Of training pictures that stay in files only a
            sample decides.
        lazy: leave the pictures in their files even if they would fit into memory.
        fixed: `size` is that of all pictures, which the loader refuses otherwise, unless the user gives another.

    Raises:
        UserError: pictures cannot be decoded (the first 20 are named), or there are too few pictures for a test part.
    """
    if request.image_size is not None:
        size, fixed = (request.image_size, request.image_size), False
    sections = _sections(train, validation, test)
    pixels = sum(map(len, sections)) * size[0] * size[1]
    # A damaged header in the test part would otherwise be found only after training.
    if channels is None or train.pictures.light:
        grey = _look(sections, sampled=lazy or stays_out(pixels, size, request.memory))
        channels = channels or (1 if grey else 3)
    stays = lazy or stays_out(pixels * channels, size, request.memory)
    made = [_made(section, channels, size, stays, request.skip_bad) for section in sections]
    skipped, said = _without_bad(sections, classes, request.skip_bad)
    sizes = [(header.width, header.height) for section in sections for header in section.headers.values()]
    held = len(made[0]) - sum(position < sections[0].training for position in sections[0].good())
    tested = sections[1]
    names = [tested.pictures.name(index) for index in tested.indices(tested.good())]
    resize = _resize(tested.pictures.random, stays, fixed)
    return Parts(made[0], made[1], classes, found_at, held, Findings((*notes, *said), sizes, skipped, names), resize)


def _sections(train: Labelled, validation: Labelled | None, test: Labelled | None) -> list[_Section]:
    """Training pictures followed by the user's validation pictures, and test pictures."""
    pictures, labels_N, count = train.pictures, train.labels_N, len(train.labels_N)
    train_N, test_N = (torch.arange(count), None) if test is not None else fixed_test_split(labels_N)
    training = len(train_N)
    if test_N is not None:
        aside = _Section(pictures, test_N, labels_N[test_N], 0)
    else:
        assert test is not None
        aside = _Section(test.pictures, torch.arange(len(test.labels_N)), test.labels_N, 0)
    if validation is not None:
        pictures = JoinedPictures(pictures, validation.pictures)
        labels_N = torch.cat([labels_N, validation.labels_N])
        train_N = torch.cat([train_N, count + torch.arange(len(validation.labels_N))])
    return [_Section(pictures, train_N, labels_N[train_N], training), aside]


def _look(sections: Sequence[_Section], sampled: bool) -> bool:
    """Read headers, and return whether all of them are grey.

    If `sampled`, colour is judged by a sample of the training pictures, and too many are not all read.
    """
    grey = True
    for section in sections:
        training = torch.arange(section.training)
        judged = spread_sample(training) if sampled else training
        read = judged if sampled and section.training > CHECKED else training
        others = list(range(section.training, len(section)))
        positions = read.tolist() + others
        section.note(positions, read_headers(section.pictures, section.indices(positions)))
        headers = (section.headers.get(position) for position in judged.tolist() + others)
        grey = grey and all(header.grey for header in headers if header is not None)
    return grey


def _made(section: _Section, channels: int, size: tuple[int, int], stays: bool, check: bool) -> Images:
    """The images that can be decoded; those that stay in their files are all tried before training if `check`."""
    if stays or section.pictures.random:
        if check:
            positions = section.good()
            section.note(positions, try_decoding(section.pictures, section.indices(positions), channels))
        good = torch.tensor(section.good(), dtype=torch.int64)
        kind = DrawnImages if section.pictures.random else LazyImages
        read = PictureReader(section.pictures, channels)
        return kind(read, section.index_N[good], section.labels_N[good], channels, max(size))
    positions = section.good()
    images_NCHW, found = decode_images(section.pictures, section.indices(positions), channels, size)
    section.note(positions, found)
    decoded = torch.tensor([not isinstance(one, PictureError) for one in found], dtype=torch.bool)
    labels_N = section.labels_N[positions]
    # Picking all of them would copy them.
    return ImageSet(images_NCHW, labels_N) if decoded.all() else ImageSet(images_NCHW[decoded], labels_N[decoded])


def _without_bad(sections: Sequence[_Section], classes: Sequence[str], skip: bool) -> tuple[dict[str, int], list[Note]]:
    """Refuse the pictures that cannot be decoded or, if they are left out, count them by class."""
    bad = [section.bad[position] for section in sections for position in sorted(section.bad)]
    if not skip or not bad:
        refuse_bad(bad)
        return {}, []
    train, test = sections
    emptied = ("training", train.training, train), ("test", len(test), test)
    for name, count, section in emptied:
        if count and all(position in section.bad for position in range(count)):
            raise UserError(f"no image of the {name} part can be decoded ({bad[0]}): give other images.")
    names = [classes[int(section.labels_N[at])] for section in sections for at in sorted(section.bad)]
    counts = {name: names.count(name) for name in classes if name in set(names)}
    return counts, [skipped_note(bad, names)]


def _resize(random: bool, stays: bool, fixed: bool) -> Resize:
    # Images that are drawn at random stay in their files and are whole: cropping is the Dataset's own business.
    if stays and not random:
        return "shorter_side"
    return "none" if fixed else "cover"


def stays_out(taken: int, size: tuple[int, int], memory: int) -> bool:
    """Whether images that would take this many bytes are decoded again in every step instead of kept in memory."""
    return max(size) >= LARGE or taken > memory


def spread_sample(index_N: Tensor) -> Tensor:
    """At most `SAMPLE` of the indices, evenly spread over them."""
    if len(index_N) <= SAMPLE:
        return index_N
    return index_N[torch.arange(SAMPLE) * len(index_N) // SAMPLE]
