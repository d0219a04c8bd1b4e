"""A user's own method or network from "path/to/file.py:Name"."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TypeVar

from codistill.errors import UserError, unknown

__all__ = ["load_class", "load_name"]

C = TypeVar("C")


def load_name(reference: str) -> object:
    """Run the file of "path/to/file.py:Name" and return what it calls Name.

    Raises:
        UserError: there is no such file or name.
    """
    path_text, _, name = reference.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UserError(f"{reference!r}: there is no file {path}; give path/to/file.py:Name.")
    # Registered under a name of its own, which dataclasses and inspect look up while and after the file runs.
    module_name = f"codistill_user_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise unknown(f"name in {path}", name, (n for n in vars(module) if not n.startswith("_")))
    return getattr(module, name)


def load_class(reference: str, base: type[C]) -> type[C]:
    """Like `load_name`, for a subclass of `base`."""
    found = load_name(reference)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{reference!r} is no subclass of codistill.methods.{base.__name__}: derive it from that.")
    return found
