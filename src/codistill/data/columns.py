"""Finds the columns of images and of labels in a table, and the class names that Hugging Face stores in its schema.

The package `datasets` has no such rule: its users name the columns.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from codistill.data.labels import class_names
from codistill.errors import UserError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["choose_columns", "noted_classes"]

_IMAGE_NAMES = ("image", "img", "picture")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")


def choose_columns(schema: pyarrow.Schema, place: str) -> tuple[str, str]:
    """Return the names of the column of images and of the column of labels.

    Only columns of the right type are considered: images are bytes or a struct with bytes, labels are whole numbers or
    text. Of these, take the one with a usual name; if there is none, the only one with stored class names; if there is
    none, the only one.

    Raises:
        UserError: no column has the right type, or several have it and none of the rules chooses one.
    """
    from pyarrow import types

    def holds_image(kind: Any) -> bool:
        struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return struct or types.is_binary(kind) or types.is_large_binary(kind)

    def holds_label(kind: Any) -> bool:
        return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)

    chosen = []
    for what, fits, usual in (("images", holds_image, _IMAGE_NAMES), ("labels", holds_label, _LABEL_NAMES)):
        fitting = [field.name for field in schema if fits(field.type)]
        if not fitting:
            raise UserError(
                f"{place} has no column of {what} (its columns: {', '.join(schema.names)}): images must be bytes and "
                "labels numbers or text; give another table."
            )
        noted = [name for name in fitting if noted_classes(schema, name, place)]
        found = [name for name in usual if name in fitting][:1] or (noted if len(noted) == 1 else fitting)
        if len(found) > 1:
            raise UserError(
                f"{place} has several columns that could be the {what} ({', '.join(found)}): rename the right "
                f"one to {usual[0]!r}."
            )
        chosen.append(found[0])
    return chosen[0], chosen[1]


def noted_classes(schema: pyarrow.Schema, label: str, place: str) -> tuple[str, ...] | None:
    """Class names that Hugging Face stored in the schema for a column, or None; UserError if they cannot be read."""
    note = (schema.metadata or {}).get(b"huggingface")
    try:
        info = (json.loads(note) if note else {}).get("info") or {}
        names = ((info.get("features") or {}).get(label) or {}).get("names")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{place} has Hugging Face metadata in its schema that cannot be read ({error}): write the table again."
        ) from error
    return None if names is None else class_names(names, f"the column {label!r} of {place}")
