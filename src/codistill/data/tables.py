"""Tables of images: data sets of the Hugging Face hub through `datasets`, and local parquet files (extra `hf`).

Parquet files are read here, since `datasets` takes class names from the first file without comparing the others,
reads testset.parquet as training data, and writes a copy of everything into its cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codistill.data.columns import choose_columns, noted_classes
from codistill.data.findings import Note
from codistill.data.gather import Labelled, gather
from codistill.data.labels import class_indices, refuse_other_names
from codistill.data.listing import Tree, about_others
from codistill.data.opening import kind_of_file
from codistill.data.pictures import Pictures
from codistill.data.rows import ArrowRows, HubRows, hub_folders, roots_of
from codistill.data.source import Parts, Request
from codistill.errors import UserError, one_line

__all__ = ["find", "load_hub", "load_parquet"]

_VALIDATION_NAMES = ("validation", "valid", "val", "dev")
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
    validation (or valid, val, dev). If there is no test part, or it has no labels, the validation part is the test
    part; if there is neither, 20 % of each class is set aside as the test set.

    Raises:
        UserError: pyarrow is missing, a file is missing or damaged, files do not belong together, the column of images
            or of labels is missing or not clear, or the files do not fit into memory.
    """
    parquet, arrow = _import("pyarrow.parquet"), _import("pyarrow")
    path = Path(request.place).expanduser()
    folder = path if path.is_dir() else path.parent
    tree = Tree(folder, request.follow_links)
    train_files, validation_files, test_files = _parquet_files(path, tree)

    def of_file(file: Path, use: Callable[[Path], Any]) -> Any:
        try:
            return use(file)
        except (arrow.ArrowException, OSError) as error:
            raise UserError(f"{file} is not a valid parquet file ({one_line(error)}): get it again.") from error

    def read(files: list[Path]) -> _Part:
        every = {*train_files, *validation_files, *test_files}
        taken = sum(of_file(file, lambda file: _unpacked_size(parquet.read_metadata(file))) for file in every)
        if taken > request.memory:
            raise UserError(
                f"parquet:{path} has {taken / 2**30:.1f} GiB of images and labels, but at most "
                f"{request.memory / 2**30:g} GiB are kept in memory (--data-memory): write hf:{folder}, which reads "
                "rows from disk."
            )
        tables = [of_file(file, parquet.read_table) for file in files]
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
        rows = ArrowRows(table.column(image).combine_chunks(), str(path), roots_of(request, folder))
        return _Part(rows, table.column(label).to_pylist(), names[0])

    notes = [Note(text, warns) for text, warns in about_others([tree])]
    return _gathered(read, train_files, validation_files, test_files, str(path), request, notes)


def load_hub(request: Request) -> Parts:
    """Load hf:NAME with the package `datasets`.

    The parts are the splits "train", "validation" (or "valid", "val", "dev") and "test". If "test" is missing or has no
    labels (-1), the validation part is the test part; if there is neither, 20 % of each class is set aside as the test
    set.

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
        roots = roots_of(request, Path(name).expanduser(), *hub_folders(datasets))
        return _Part(HubRows(rows, image, f"hf:{name}", roots), list(split[label]), names)

    validation = next((name for name in _VALIDATION_NAMES if name in splits), None)
    return _gathered(read, "train", validation, "test" if "test" in splits else None, f"hf:{name}", request)


@dataclass(frozen=True)
class _Part:
    """One part of a table; `names` are the class names that Hugging Face stored in the schema, or None."""

    pictures: Pictures
    labels: list[Any]
    names: tuple[str, ...] | None


def _unpacked_size(metadata: Any) -> int:
    """Bytes of all columns, as the file itself says; its own size may be a thousandth of it."""
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def _parquet_files(path: Path, tree: Tree) -> tuple[list[Path], list[Path], list[Path]]:
    """The files of the training, the validation and the test part."""
    if path.is_file():
        return [path], [], []
    if path.exists() and not path.is_dir():
        raise UserError(f"parquet:{path} is {kind_of_file(path)}, not a file: give the path of a file or a folder.")
    files = sorted(file for file in tree.files_below(path) if file.suffix == ".parquet") if path.is_dir() else []
    if not files:
        links = f" ({about_others([tree])[0][0]})" if tree.outside else ""
        raise UserError(
            f"parquet:{path}: there is no parquet file{links}; give the path of a file, or of a folder with some."
        )
    parts = {kind: [file for file in files if _kind(file.relative_to(path)) == kind] for kind in _WORDS}
    if parts["train"]:
        return parts["train"], parts["validation"], parts["test"]
    others = parts["test"] + parts["validation"]
    if others:
        raise UserError(
            f"parquet:{path} has {others[0].name} and no file whose name says train: rename the training files to "
            "train-*.parquet, or give the path of one file."
        )
    return files, [], []


def _kind(path: Path) -> str | None:
    """The part that the file's name says, or the name of the nearest folder that says one."""
    for name in (path.stem, *(folder.name for folder in path.parents)):
        for word in re.split(r"[-._ 0-9]+", name.lower()):
            for kind, beginning in _WORDS.items():
                if re.fullmatch(beginning, word):
                    return kind
    return None


def _gathered(
    read: Callable[[Any], _Part],
    train: Any,
    validation: Any,
    test: Any,
    found_at: str,
    request: Request,
    noticed: Sequence[Note] = (),
) -> Parts:
    """All parts; `train`, `validation` and `test` say where `read` finds them; empty if there is no such part."""
    parts = {"training": read(train)}
    notes = list(noticed)
    given = {name: read(place) for name, place in (("validation", validation), ("test", test)) if place}
    for name, part in given.items():
        # Test sets of competitions have no labels: -1, or nothing.
        if part.labels and all(label in (-1, None) for label in part.labels):
            notes.append(Note(f"the {name} part of {found_at} has no labels and is not used"))
        else:
            parts[name] = part
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
        notes.append(Note(f"{found_at} has no test part with labels: its validation part is the test part"))
    classes, made = _labelled(parts, found_at)
    held, aside = made.get("validation"), made.get("test")
    return gather(made["training"], aside, classes, found_at, request, validation=held, notes=notes)


def _labelled(parts: Mapping[str, _Part], found_at: str) -> tuple[tuple[str, ...], dict[str, Labelled]]:
    """The class names (Hugging Face's, the text labels, or numbers), and the parts with labels that count them."""
    where = {name: f"the {name} part of {found_at}" for name in parts}
    for name, part in parts.items():
        if not part.labels:
            raise UserError(f"{where[name]} has no rows: add images, or remove the empty files.")
        if None in part.labels:
            raise UserError(f"{where[name]} has rows without a label: remove them.")
    if len({isinstance(label, str) for part in parts.values() for label in part.labels}) > 1:
        raise UserError(
            f"{found_at} has labels that are text in one part and numbers in the other: use the same kind in both."
        )
    train = parts["training"]
    if not isinstance(train.labels[0], str):
        for name, part in parts.items():
            refuse_other_names(train.names or (), part.names or (), where[name])
        made = {name: Labelled(part.pictures, class_indices(part.labels, where[name])) for name, part in parts.items()}
        count = int(made["training"].labels_N.max()) + 1
        return train.names or tuple(str(number) for number in range(count)), made
    classes = tuple(sorted(set(train.labels)))
    label_of = {name: number for number, name in enumerate(classes)}
    for name, part in parts.items():
        new = sorted(set(part.labels) - set(classes))
        if new:
            raise UserError(
                f"{found_at} has the classes {', '.join(new)} in its {name} part only: add training images of them, or "
                "remove their rows."
            )
    return classes, {
        name: Labelled(part.pictures, torch.tensor([label_of[label] for label in part.labels]))
        for name, part in parts.items()
    }


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"tables of images need the package {module.partition('.')[0]}: install it with "
            "pip install 'codistill[hf]'."
        ) from error
