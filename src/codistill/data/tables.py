"""Tables of images: data sets of the Hugging Face hub through `datasets`, and local parquet files (extra `hf`).

Parquet files are read here, since `datasets` takes class names from the first file without comparing the others,
reads testset.parquet as training data, and writes a copy of everything into its cache.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from codistill.data.columns import choose_columns, noted_classes
from codistill.data.gather import Labelled, gather
from codistill.data.labels import class_indices, refuse_other_names
from codistill.data.pictures import Pictures
from codistill.data.source import Parts, Request
from codistill.errors import UserError, one_line

__all__ = ["find", "load_hub", "load_parquet"]

_TEST_NAMES = ("test", "validation", "valid", "val")
_WORDS = {
    "train": "train(ing|set)?",
    "test": "test(ing|set)?|eval(uation)?",
    "validation": "val(id|idation)?(set)?|dev",
}
"""Part -> the words that stand for it in the names of its files."""


def find() -> str | None:
    """Return None: nothing is known about a table before it is named."""
    return None


def load_parquet(request: Request) -> Parts:
    """Read parquet:PATH, a file or a folder of files as Hugging Face writes them.

    In a folder, words in the names of files and subfolders say which part a file belongs to: train, test (or eval) and
    validation (or valid, val, dev). The test part is test, or validation if test is missing or has no labels. If there
    is neither, 20 % of each class is set aside as the test set.

    Raises:
        UserError: pyarrow is missing, a file is missing or damaged, files do not belong together, the column of images
            or of labels is missing or not clear, or the files do not fit into memory.
    """
    parquet, arrow = _import("pyarrow.parquet"), _import("pyarrow")
    path = Path(request.place).expanduser()
    train_files, *test_files = _parquet_files(path)

    def read(files: list[Path]) -> _Part:
        taken = sum(file.stat().st_size for file in {*train_files, *files})
        if taken > request.memory:
            folder = path if path.is_dir() else path.parent
            raise UserError(
                f"parquet:{path} has {taken / 2**30:.1f} GiB of files, but at most {request.memory / 2**30:g} GiB are "
                f"kept in memory (--data-memory): write hf:{folder}, which reads rows from disk."
            )
        tables = []
        for file in files:
            try:
                tables.append(parquet.read_table(file))
            except (arrow.ArrowException, OSError) as error:
                raise UserError(f"{file} is not a valid parquet file ({one_line(error)}): get it again.") from error
        try:
            table = arrow.concat_tables(tables, promote_options="permissive")
        except arrow.ArrowException as error:
            raise UserError(
                f"the files {files[0].name} to {files[-1].name} of {path} have columns of different types "
                f"({one_line(error)}): write them again with the same types."
            ) from error
        image, label = choose_columns(table.schema, str(path))
        names = [noted_classes(one.schema, label, str(path)) for one in tables]
        for file, other in zip(files, names, strict=True):
            refuse_other_names(names[0] or (), other or (), str(file))
        return _Part(_Rows(table.column(image).combine_chunks(), str(path)), table.column(label).to_pylist(), names[0])

    return _gathered([read(train_files), *_first_labelled(read, test_files)], str(path), request)


def load_hub(request: Request) -> Parts:
    """Load hf:NAME with the package `datasets`.

    The training part is the split "train". The test part is "test", or "validation" if "test" is missing or has no
    labels (-1). If there is neither, 20 % of each class is set aside as the test set.

    Raises:
        UserError: the package is missing, the data cannot be loaded, or it has no images, labels or split "train".
    """
    datasets = _import("datasets")
    name = request.place
    try:
        options = datasets.DownloadConfig(local_files_only=not request.download)
        splits = datasets.load_dataset(name, download_config=options)
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"hf:{name} cannot be loaded ({one_line(error)}): check the name and the connection, or read "
            "downloaded files with parquet:PATH."
        ) from error
    if "train" not in splits:
        raise UserError(f"hf:{name} has the splits {', '.join(splits)}: one must be called train; rename it.")

    def read(split_name: str) -> _Part:
        split = splits[split_name]
        schema = split.features.arrow_schema
        image, label = choose_columns(schema, f"hf:{name}")
        rows = split.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        names = noted_classes(schema, label, f"hf:{name}")
        return _Part(_HubRows(rows, image, f"hf:{name}"), list(split[label]), names)

    parts = [read("train"), *_first_labelled(read, [name for name in _TEST_NAMES if name in splits])]
    return _gathered(parts, f"hf:{name}", request)


@dataclass(frozen=True)
class _Part:
    """One part of a table; `names` are the class names that Hugging Face stored in the schema, or None."""

    pictures: Pictures
    labels: list[Any]
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class _Rows:
    """Encoded images in memory, one per row: bytes, or Hugging Face's struct of bytes and path."""

    column: Any
    place: str
    light: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.column)

    def open(self, index: int) -> Image.Image:
        return _opened(self.column[index].as_py())

    def name(self, index: int) -> str:
        return f"image {index} of {self.place}"


@dataclass(frozen=True)
class _HubRows:
    """Encoded images that `datasets` reads from disk."""

    rows: Any
    column: str
    place: str
    light: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.rows)

    def open(self, index: int) -> Image.Image:
        return _opened(self.rows[index][self.column])

    def name(self, index: int) -> str:
        return f"image {index} of {self.place}"


def _opened(value: Any) -> Image.Image:
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            return Image.open(value["path"])
        value = value.get("bytes")
    if value is None:
        raise OSError("the row is empty")
    return Image.open(io.BytesIO(value))


def _parquet_files(path: Path) -> list[list[Path]]:
    """The training files, then the files of each part that may serve as the test part, preferred one first."""
    if path.is_file():
        return [[path]]
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if not files:
        raise UserError(f"parquet:{path}: there is no parquet file; give the path of a file, or of a folder with some.")
    parts = {kind: [file for file in files if _kind(file.relative_to(path)) == kind] for kind in _WORDS}
    tests = [parts[kind] for kind in ("test", "validation") if parts[kind]]
    if parts["train"]:
        return [parts["train"], *tests]
    if tests:
        raise UserError(
            f"parquet:{path} has {tests[0][0].name} and no file whose name says train: rename the training files to "
            "train-*.parquet, or give the path of one file."
        )
    return [files]


def _kind(path: Path) -> str | None:
    """The part that the file's name says, or the name of the nearest folder that says one."""
    for name in (path.stem, *(folder.name for folder in path.parents)):
        for word in re.split(r"[-._ 0-9]+", name.lower()):
            for kind, beginning in _WORDS.items():
                if re.fullmatch(beginning, word):
                    return kind
    return None


def _first_labelled(read: Callable[[Any], _Part], candidates: Sequence[Any]) -> list[_Part]:
    """The first part that has labels, in a list: test sets of competitions have none (-1 or empty)."""
    for candidate in candidates:
        part = read(candidate)
        if not part.labels or any(label not in (-1, None) for label in part.labels):
            return [part]
    return []


def _gathered(parts: Sequence[_Part], found_at: str, request: Request) -> Parts:
    """Both parts with their class names: Hugging Face's, the text labels, or numbers."""
    train = parts[0]
    where = [f"the {what} part of {found_at}" for what in ("training", "test")]
    for part, place in zip(parts, where, strict=False):
        if not part.labels:
            raise UserError(f"{place} has no rows: add images, or remove the empty files.")
        if None in part.labels:
            raise UserError(f"{place} has rows without a label: remove them.")
    kinds = {isinstance(label, str) for part in parts for label in part.labels}
    if len(kinds) > 1:
        raise UserError(
            f"{found_at} has labels that are text in one part and numbers in the other: use the same kind in both."
        )
    if True in kinds:
        classes = tuple(sorted(set(train.labels)))
        new = sorted({label for part in parts for label in part.labels} - set(classes))
        if new:
            raise UserError(
                f"{found_at} has the classes {', '.join(new)} in its test part only: add training images of them, or "
                "remove their rows."
            )
        label_of = {name: number for number, name in enumerate(classes)}
        made = [Labelled(part.pictures, torch.tensor([label_of[v] for v in part.labels])) for part in parts]
    else:
        refuse_other_names(train.names or (), parts[-1].names or (), where[1])
        label_parts = [class_indices(part.labels, place) for part, place in zip(parts, where, strict=False)]
        made = [Labelled(part.pictures, labels_N) for part, labels_N in zip(parts, label_parts, strict=True)]
        classes = train.names or tuple(str(number) for number in range(int(made[0].labels_N.max()) + 1))
    return gather(made[0], made[1] if len(made) > 1 else None, classes, found_at, request)


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"tables of images need the package {module.partition('.')[0]}: install it with "
            "pip install 'codistill[hf]'."
        ) from error
