"""Which columns of a table hold the images and the labels, and what Hugging Face notes of the classes."""

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
    """Names of the columns of images and of labels.

    Of the columns of a fitting type (images are bytes, or a struct of bytes; labels whole numbers or text) the one with
    a usual name, else the only one that has noted class names, else the only one.

    Raises:
        UserError: no column fits, or several and none has a usual name.
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
                f"{place} has no column of {what} (its columns: {', '.join(schema.names)}): images are bytes, labels "
                "numbers or text; name another table."
            )
        noted = [name for name in fitting if noted_classes(schema, name, place)]
        found = [name for name in usual if name in fitting][:1] or (noted if len(noted) == 1 else fitting)
        if len(found) > 1:
            raise UserError(
                f"{place} has several columns that may be the {what} ({', '.join(found)}): name the right one "
                f"{usual[0]!r}."
            )
        chosen.append(found[0])
    return chosen[0], chosen[1]


def noted_classes(schema: pyarrow.Schema, label: str, place: str) -> tuple[str, ...] | None:
    """Class names that Hugging Face notes of a column in the schema, or None; UserError for notes of another form."""
    note = (schema.metadata or {}).get(b"huggingface")
    try:
        info = (json.loads(note) if note else {}).get("info") or {}
        names = ((info.get("features") or {}).get(label) or {}).get("names")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{place} has notes of Hugging Face in its schema that cannot be read ({error}): write the table anew."
        ) from error
    return None if names is None else class_names(names, f"the column {label!r} of {place}")
