"""Tables of images: local parquet files, and data sets of the Hugging Face hub (extra `hf`)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from codistill.data.gather import Labelled, gather
from codistill.data.source import Parts, Request
from codistill.errors import UserError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["find", "load_hub", "load_parquet"]

_IMAGE_NAMES = ("image", "img", "picture")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")
_TEST_NAMES = ("test", "validation", "valid", "val")


def find() -> str | None:
    """Return None: nothing is known of a table before it is named."""
    return None


def load_parquet(request: Request) -> Parts:
    """Read parquet:PATH, a file or a folder of them, as Hugging Face writes them.

    In a folder files whose names begin with "train" are the training part and those with "test" (else "validation",
    "valid" or "val") the test part. A file, or a folder without such names, gives up a fixed 20 % for the test.

    Raises:
        UserError: pyarrow is missing, a file is missing or damaged, there is no column of images or of labels, or the
            files do not fit into memory.
    """
    parquet, arrow = _import("pyarrow.parquet"), _import("pyarrow")
    path = Path(request.place).expanduser()
    train_files, test_files = _parquet_files(path)
    taken = sum(file.stat().st_size for file in train_files + test_files)
    if taken > request.memory:
        folder = path if path.is_dir() else path.parent
        raise UserError(
            f"parquet:{path} has {taken / 2**30:.1f} GiB of files and at most {request.memory / 2**30:g} GiB are kept "
            f"in memory (--data-memory): name its folder as hf:{folder}, which reads rows from disk."
        )

    def read(files: list[Path]) -> tuple[_Rows, pyarrow.Schema, list[Any]]:
        tables = []
        for file in files:
            try:
                tables.append(parquet.read_table(file))
            except (arrow.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{file} is no sound parquet file ({reason}): get it again.") from error
        table = arrow.concat_tables(tables, promote_options="default")
        image, label = _columns(table.schema, str(path))
        return _Rows(table.column(image).combine_chunks(), str(path)), table.schema, table.column(label).to_pylist()

    parts = [read(files) for files in (train_files, test_files) if files]
    return _gathered(parts, str(path), request)


def load_hub(request: Request) -> Parts:
    """Load hf:NAME with the package `datasets`: the split "train", and "test" (else "validation") or a fixed 20 %.

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
            f"hf:{name} cannot be loaded ({' '.join(str(error).split())}): check the name and the connection, or name "
            "downloaded files by parquet:PATH."
        ) from error
    if "train" not in splits:
        raise UserError(f"hf:{name} has the splits {', '.join(splits)}: one must be called train; save it so.")
    parts = []
    for split_name in ("train", *(name for name in _TEST_NAMES if name in splits))[:2]:
        split = splits[split_name]
        schema = split.features.arrow_schema
        image, label = _columns(schema, f"hf:{name}")
        rows = split.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        parts.append((_HubRows(rows, image, f"hf:{name}"), schema, list(split[label])))
    return _gathered(parts, f"hf:{name}", request)


@dataclass(frozen=True)
class _Rows:
    """Encoded images in memory, one a row: bytes, or Hugging Face's struct of bytes and path."""

    column: Any
    place: str

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


def _parquet_files(path: Path) -> tuple[list[Path], list[Path]]:
    if path.is_file():
        return [path], []
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if not files:
        raise UserError(f"parquet:{path}: there is no parquet file; give the path of one, or of a folder of them.")
    train = [file for file in files if file.name.startswith("train")]
    if not train:
        return files, []
    found = ([file for file in files if file.name.startswith(name)] for name in _TEST_NAMES)
    return train, next((part for part in found if part), [])


def _columns(schema: pyarrow.Schema, place: str) -> tuple[str, str]:
    """Names of the columns of images and of labels: the usual names first, then the first of a fitting type."""
    arrow = _import("pyarrow")
    kinds = arrow.types

    def holds_image(kind: Any) -> bool:
        struct = kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return struct or kinds.is_binary(kind) or kinds.is_large_binary(kind)

    def holds_label(kind: Any) -> bool:
        return kinds.is_integer(kind) or kinds.is_string(kind) or kinds.is_large_string(kind)

    chosen = []
    for what, fits, usual in (("images", holds_image, _IMAGE_NAMES), ("labels", holds_label, _LABEL_NAMES)):
        fitting = [field.name for field in schema if fits(field.type)]
        name = next((name for name in (*usual, *fitting) if name in fitting), None)
        if name is None:
            raise UserError(
                f"{place} has no column of {what} (its columns: {', '.join(schema.names)}): images are bytes, labels "
                "numbers or text; name another table."
            )
        chosen.append(name)
    return chosen[0], chosen[1]


def _gathered(parts: Sequence[tuple[Any, pyarrow.Schema, list[Any]]], found_at: str, request: Request) -> Parts:
    """Parts of (pictures, schema, labels); class names from Hugging Face's notes in the schema, or from text labels."""
    _, schema, train_labels = parts[0]
    _, label = _columns(schema, found_at)
    values = [value for _, _, labels in parts for value in labels]
    if any(value is None for value in values):
        raise UserError(f"{found_at} has rows without a label in the column {label!r}: remove them.")
    if any(isinstance(value, str) for value in values):
        classes = sorted(set(train_labels))
        label_of = {name: number for number, name in enumerate(classes)}
        new = sorted({str(value) for value in values} - label_of.keys())
        if new:
            raise UserError(
                f"{found_at} has the classes {', '.join(new)} in its test part alone: add training images of them, or "
                "remove their rows."
            )
    else:
        noted = _noted_classes(schema, label)
        classes = noted or [str(number) for number in range(max(train_labels, default=0) + 1)]
        label_of = {number: number for number in set(values)}
    made = [Labelled(rows, torch.tensor([label_of[v] for v in labels])) for rows, _, labels in parts]
    test = made[1] if len(made) > 1 else None
    return gather(made[0], test, tuple(classes), found_at, request)


def _noted_classes(schema: pyarrow.Schema, label: str) -> list[str] | None:
    note = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(note).get("info", {}).get("features", {}) if note else {}
    return features.get(label, {}).get("names")


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"tables of images need the package {module.partition('.')[0]}: install it by pip install 'codistill[hf]'."
        ) from error
