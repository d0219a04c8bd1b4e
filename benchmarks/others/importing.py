"""Import other people's code from a folder without changing it, and leave the interpreter as it was."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from codistill.errors import UserError

__all__ = ["import_code", "quiet_on_cpu"]


class _Bar:
    """Stands in for tqdm's progress bar if tqdm is not installed."""

    def __init__(self, items: Any = (), **_: object) -> None:
        self.items = items

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def update(self, *_: object) -> None:
        """Show nothing."""

    set_postfix = update


STAND_INS: dict[str, dict[str, object]] = {
    "tqdm": {"tqdm": _Bar},
    "tensorboardX": {"SummaryWriter": object},
    "torch.utils.tensorboard": {"SummaryWriter": object},
}
"""Modules that other people's code imports, and what stands in for one that is not installed."""


def import_code(folder: Path, module: str, option: str, needed: tuple[str, ...]) -> ModuleType:
    """Import a module of a folder without changing anything in it.

    Afterwards no module of the folder is left in `sys.modules` (`models` and `utils` are common names), and the search
    path, the arguments, the environment and cuDNN's settings are what they were.

    Args:
        folder: the folder that contains `module`.
        module: name of the module or package.
        option: the option of the command line that named the folder, for messages.
        needed: dotted names that the module must have.

    Raises:
        UserError: there is no such module, something that it imports is not installed, or a name is missing.
    """
    if not any((folder / name).is_file() for name in (f"{module}.py", f"{module}/__init__.py")):
        raise UserError(
            f"{option}: {folder} contains no module {module}; give the folder into which that code was unpacked."
        )
    try:
        with _as_started_there(folder, module), redirect_stdout(io.StringIO()):
            code = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{option}: {module} in {folder} cannot be imported ({error}); install what it needs."
        ) from error
    for name in needed:
        try:
            attrgetter(name)(code)
        except AttributeError:
            raise UserError(
                f"{option}: {module} in {folder} has no {name}; give the version that benchmarks/README.md names."
            ) from None
    return code


@contextmanager
def quiet_on_cpu() -> Iterator[None]:
    """A scope in which nothing is printed and `tensor.cuda()` returns the tensor itself."""
    cuda = torch.Tensor.cuda
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.Tensor.cuda = cuda


@contextmanager
def _as_started_there(folder: Path, module: str) -> Iterator[None]:
    """Act as if Python ran in `folder`: it comes first on the search path, without arguments, and stays unwritten."""
    theirs = {path.stem for path in folder.iterdir()}
    hidden = _pop_modules(theirs)
    stood_in = _stand_in()
    path, arguments, environment = list(sys.path), list(sys.argv), dict(os.environ)
    no_bytecode, benchmark = sys.dont_write_bytecode, torch.backends.cudnn.benchmark
    sys.path.insert(0, str(folder))
    sys.argv[:] = [module]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:], sys.argv[:], sys.dont_write_bytecode = path, arguments, no_bytecode
        os.environ.clear()
        os.environ.update(environment)
        torch.backends.cudnn.benchmark = benchmark
        _pop_modules(theirs)
        for name in stood_in:
            del sys.modules[name]
        sys.modules.update(hidden)


def _pop_modules(packages: set[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}


def _stand_in() -> list[str]:
    missing = []
    for name, content in STAND_INS.items():
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(content)
            missing.append(name)
    return missing
