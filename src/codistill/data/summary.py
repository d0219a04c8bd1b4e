"""What a run is about to learn from: images per class and part, images that are in two parts, sizes, what was left out.

Nothing is decoded for it: images in memory are compared by their pixels, those in files by their bytes, which are read
only where two files of different parts have the same length.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from codistill.data.pictures import FilePictures, JoinedPictures, PictureReader, Pictures
from codistill.data.types import Dataset, Images, ImageSet
from codistill.printable import printable

__all__ = ["DataSummary", "Duplicates", "summarise_data"]

MOST_BYTES = 2 * 2**30
"""Images are compared if they have no more bytes than this, which takes about two seconds."""
_SHOWN = 10
_EACH_END = 3


@dataclass(frozen=True)
class Duplicates:
    """How many images of one part are also in another.

    Attributes:
        counts: "test in training" -> number of test images that are also training images, and so on for all pairs.
        compared: what was compared ("pixels at 64 × 64", "bytes"), or why nothing was.
    """

    counts: Mapping[str, int]
    compared: str


@dataclass(frozen=True)
class DataSummary:
    """The images of a run.

    Attributes:
        per_class: part (training, validation, test) -> images of each class, in the order of the classes.
        duplicates: images that are in two parts.
        sizes: width and height in pixels: the smallest, the median and the largest of each, before resizing; empty if
            the sizes are not known.
        channels: 1 (grey) or 3 (RGB).
        skipped: class -> images that were left out because they cannot be decoded.
        notes: sentences about what was ignored, guessed or left out.
        lines: all of it for a terminal, at most about ten lines; without the notes that were given as warnings.
    """

    per_class: Mapping[str, tuple[int, ...]]
    duplicates: Duplicates
    sizes: tuple[tuple[int, int], ...]
    channels: int
    skipped: Mapping[str, int]
    notes: tuple[str, ...]
    lines: tuple[str, ...]


def summarise_data(dataset: Dataset, training_N: Tensor, validation_N: Tensor) -> DataSummary | None:
    """Return the summary of the user's own images; None for data sets whose content is known.

    Args:
        dataset: the data.
        training_N: which of `dataset.train` are trained on, held-out images included.
        validation_N: which of them are for validation.
    """
    findings = dataset.findings
    if findings is None:
        return None
    indices = {"training": training_N, "validation": validation_N, "test": torch.arange(len(dataset.test))}
    images = {"training": dataset.train, "validation": dataset.train, "test": dataset.test}
    per_class = {
        part: tuple(images[part].labels_N[index_N].bincount(minlength=len(dataset.classes)).tolist())
        for part, index_N in indices.items()
    }
    duplicates = _duplicates({part: (images[part], index_N) for part, index_N in indices.items()})
    sizes, channels = _sizes(findings.sizes), dataset.train.shape[0]
    notes = tuple(note.text for note in findings.notes)
    shape = dataset.train.shape
    lines = (
        *_class_lines(dataset.classes, per_class),
        *_duplicate_lines(duplicates),
        _size_line(sizes, shape),
        *(note.text for note in findings.notes if not note.warns),
    )
    return DataSummary(per_class, duplicates, sizes, channels, dict(findings.skipped), notes, lines)


def _class_lines(classes: Sequence[str], per_class: Mapping[str, Sequence[int]]) -> list[str]:
    classes = [printable(name, lines=False) for name in classes]
    counts = list(zip(classes, *per_class.values(), strict=True))
    counts.sort(key=lambda row: -row[1])
    shown = [f"{name} {'/'.join(f'{count:,}' for count in row)}" for name, *row in counts]
    if len(shown) > _SHOWN:
        hidden = f"{len(shown) - 2 * _EACH_END:,} more"
        shown = [*shown[:_EACH_END], hidden, *shown[-_EACH_END:]]
    lines = [f"images per class, {'/'.join(per_class)}: {', '.join(shown)}"]
    largest, smallest = counts[0], counts[-1]
    if largest[1] > smallest[1]:
        ratio = largest[1] / max(smallest[1], 1)
        lines.append(f"imbalance: {largest[0]} has {ratio:.1f} times as many training images as {smallest[0]}")
    for part, of in per_class.items():
        missing = [name for name, count in zip(classes, of, strict=True) if not count]
        if missing:
            more = f" and {len(missing) - _SHOWN:,} more classes" if len(missing) > _SHOWN else ""
            lines.append(f"no {part} images of {', '.join(missing[:_SHOWN])}{more}")
    return lines


def _duplicate_lines(duplicates: Duplicates) -> list[str]:
    found = [f"{count:,} {pair.replace(' in ', ' images are also ')} images"
             for pair, count in duplicates.counts.items() if count]  # fmt: skip
    if found:
        return [f"the same image in two parts: {'; '.join(found)} (same {duplicates.compared})"]
    if duplicates.counts:
        return [f"no image is in two parts (compared: {duplicates.compared})"]
    return [f"not checked whether an image is in two parts: {duplicates.compared}"]


def _size_line(sizes: Sequence[tuple[int, int]], shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    used = f"used at {width} × {height}, {'grey' if channels == 1 else 'RGB'}"
    if not sizes:
        return f"images are {used}"
    if sizes[0] == sizes[-1]:
        return f"all images have {sizes[0][0]} × {sizes[0][1]} pixels, {used}"
    texts = [f"{name} {w} × {h}" for name, (w, h) in zip(("smallest", "median", "largest"), sizes, strict=True)]
    return f"width × height in pixels: {', '.join(texts)} (each side by itself); {used}"


def _sizes(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    if not sizes:
        return ()
    sides = torch.tensor(sizes)
    ends = sides.amin(0), sides.median(0).values, sides.amax(0)
    return tuple((int(width), int(height)) for width, height in ends)


def _duplicates(parts: Mapping[str, tuple[Images, Tensor]]) -> Duplicates:
    images = [images for images, _ in parts.values()]
    if all(isinstance(one, ImageSet) for one in images):
        channels, height, width = images[0].shape
        if sum(len(index_N) for _, index_N in parts.values()) * channels * height * width > MOST_BYTES:
            return Duplicates({}, f"the images take more than {MOST_BYTES / 2**30:g} GiB")
        keys = {part: _pixel_keys(one, index_N) for part, (one, index_N) in parts.items()}
        return Duplicates(_counts(keys), f"pixels at {width} × {height}")
    files = {part: _files(one, index_N) for part, (one, index_N) in parts.items()}
    if any(paths is None for paths in files.values()):
        return Duplicates({}, "the images are neither in memory nor in files")
    return _same_files({part: paths or [] for part, paths in files.items()})


def _pixel_keys(images: Images, index_N: Tensor) -> list[object]:
    assert isinstance(images, ImageSet)
    rows = images.images_NCHW.numpy()
    return [hashlib.blake2b(rows[index].tobytes(), digest_size=16).digest() for index in index_N.tolist()]


def _same_files(files: Mapping[str, Sequence[Path]]) -> Duplicates:
    lengths = {part: [_length(path) for path in paths] for part, paths in files.items()}
    parts_of: dict[int, set[str]] = defaultdict(set)
    for part, found in lengths.items():
        for length in found:
            parts_of[length].add(part)
    suspects = {
        part: [path for path, length in zip(paths, lengths[part], strict=True) if len(parts_of[length]) > 1]
        for part, paths in files.items()
    }
    taken = sum(length for found in lengths.values() for length in found if len(parts_of[length]) > 1)
    if taken > MOST_BYTES:
        return Duplicates({}, f"the files to compare have more than {MOST_BYTES / 2**30:g} GiB")
    keys = {part: [_file_key(path) for path in paths] for part, paths in suspects.items()}
    return Duplicates(_counts(keys), "bytes")


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _file_key(path: Path) -> object:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:  # A file that cannot be read is reported when it is decoded.
        return path


def _files(images: Images, index_N: Tensor) -> list[Path] | None:
    """The files of these images, or None if they are not in files of their own."""
    read = None if isinstance(images, ImageSet) else images.read
    if not isinstance(read, PictureReader):
        return None
    assert not isinstance(images, ImageSet)
    paths = _paths(read.pictures)
    return None if paths is None else [paths[index] for index in images.index_N[index_N].tolist()]


def _paths(pictures: Pictures) -> Sequence[Path] | None:
    if isinstance(pictures, FilePictures):
        return pictures.paths
    if isinstance(pictures, JoinedPictures):
        first, second = _paths(pictures.first), _paths(pictures.second)
        return None if first is None or second is None else [*first, *second]
    return None


def _counts(keys: Mapping[str, Iterable[object]]) -> dict[str, int]:
    known = {part: set(found) for part, found in keys.items()}
    lists = {part: list(found) for part, found in keys.items()}
    return {f"{b} in {a}": sum(key in known[a] for key in lists[b]) for a, b in combinations(keys, 2)}
