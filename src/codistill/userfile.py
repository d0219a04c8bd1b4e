"""Load a user's own method or network from "path/to/file.py:Name"."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

import torch

from codistill.errors import UserError, unknown
from codistill.trusted import check_trusted

__all__ = ["call", "load_class", "load_name"]

C = TypeVar("C")
R = TypeVar("R")
PREFIX = "codistill_user_"


def load_name(reference: str) -> object:
    """Run the file of "path/to/file.py:Name" and return its object Name.

    Raises:
        UserError: there is no such file or name, the file fails when it is run, or it may not run (trusted.py).
    """
    path_text, _, name = reference.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UserError(f"{reference!r}: there is no file {path}; give path/to/file.py:Name.")
    # Marked by path and content: a file that has not changed is run only once, so that its classes stay the same.
    content = path.read_bytes()
    check_trusted(path, content)
    mark = hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:16]
    module = _run_once(f"{PREFIX}{path.stem}_{mark}", path, content)
    if not hasattr(module, name):
        raise unknown(f"name in {path}", name, (n for n in vars(module) if not n.startswith("_")))
    return getattr(module, name)


def load_class(reference: str, base: type[C]) -> type[C]:
    """Like `load_name`; the object must be a subclass of `base`."""
    found = load_name(reference)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"{reference!r} is not a subclass of codistill.methods.{base.__name__}: derive it from that class."
        )
    return found


def call(reference: str, function: Callable[..., R], *arguments: Any, **keywords: Any) -> R:
    """Call what a user's file defines; if it fails, raise UserError with the file, the line and the reason."""
    try:
        return function(*arguments, **keywords)
    except UserError:
        raise
    except Exception as error:
        path = Path(reference.rpartition(":")[0])
        raise UserError(f"{reference!r} failed ({_described(error, path)}): correct the file.") from error


class _Source(SourceFileLoader):
    """Runs the content that was checked: never what lies in __pycache__, which may be of another program."""

    def __init__(self, name: str, path: Path, content: bytes) -> None:
        super().__init__(name, str(path))
        self.content = content

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.content, self.path)


def _run_once(module_name: str, path: Path, content: bytes) -> ModuleType:
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Source(module_name, path, content))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses, inspect and pickle look the module up by its name, both while the file runs and later.
    sys.modules[module_name] = module
    try:
        # A file runs only once: random numbers that it draws must not change those that are drawn later.
        with torch.random.fork_rng(devices=[]):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, UserError) or not isinstance(error, Exception | SystemExit):
            raise
        raise UserError(f"{path} fails when it is run ({_described(error, path)}): correct the file.") from error
    return module


def _described(error: BaseException, path: Path) -> str:
    """Return the kind of an error, the last line of the file that it passed and its message, on one line."""
    file, frames = path.resolve(), traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}{f', line {lines[-1]}' if lines else ''}: {' '.join(text.split())}"
