"""Packages whose public names are imported on first use, so that nothing waits for what it does not need.

The package lists its names three times: under `TYPE_CHECKING` for readers and type checkers, in `__all__`, and in the
call of `import_on_use`. A test holds the three lists equal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_on_use"]


def import_on_use(package: str, homes: Mapping[str, str], subpackages: str = "") -> None:
    """Make names of a package available without importing the modules that define them; call it in `__init__.py`.

    Args:
        package: `__name__` of the package.
        homes: for each module of the package, the names that it defines, separated by spaces; a module of another
            package is given in full ("codistill.config").
        subpackages: modules that are attributes of the package before anything has imported them, likewise.
    """
    module = sys.modules[package]
    module.__class__ = LazyPackage
    assert isinstance(module, LazyPackage)
    top = package.partition(".")[0]
    full = {home: home if home.startswith(f"{top}.") else f"{package}.{home}" for home in homes}
    module._modules = {name: full[home] for home, names in homes.items() for name in names.split()}
    module._subpackages = tuple(subpackages.split())


class LazyPackage(ModuleType):
    """A package that imports a name when it is first asked for it."""

    _modules: dict[str, str]
    _subpackages: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        if name in self._modules:
            value = getattr(import_module(self._modules[name]), name)
            # Stored, so that this function is not called for the name again.
            self.__dict__[name] = value
            return value
        if name in self._subpackages:
            return import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        # Python stores an imported submodule as an attribute of its package. It must not replace a public name that is
        # spelled the same, such as the function `normalise` of data/normalise.py.
        if not (isinstance(value, ModuleType) and name in self.__dict__.get("_modules", ())):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._modules, *self._subpackages})
