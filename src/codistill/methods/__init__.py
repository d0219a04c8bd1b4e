"""All methods by name, and `build`, which makes one for a group."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Protocol, get_type_hints

import torch

from codistill.convert import convert
from codistill.errors import UserError, unknown
from codistill.methods.audience import AUDIENCE
from codistill.methods.base import Method, Rows
from codistill.methods.collaborative import CLILR, CLNN
from codistill.methods.contract import check_built
from codistill.methods.dml import DML
from codistill.methods.independent import Baseline, Independent
from codistill.methods.kd import KD
from codistill.methods.kdcl import KDCLGeneral, KDCLLinear, KDCLMinLogit, KDCLNaive
from codistill.methods.okddip import OKDDip
from codistill.methods.one import ONE
from codistill.methods.pcl import PCL
from codistill.methods.switokd import SwitOKD
from codistill.types import GroupShape, Needs
from codistill.userfile import call, load_class

__all__ = ["METHODS", "Method", "Needs", "Rows", "build", "check_options", "describe", "find", "needs_of", "options"]

METHODS: dict[str, type[Method]] = {
    "baseline": Baseline,
    "ind": Independent,
    "kd": KD,
    "dml": DML,
    "cl_ilr": CLILR,
    "clnn": CLNN,
    "one": ONE,
    "okddip": OKDDip,
    "kdcl_naive": KDCLNaive,
    "kdcl_linear": KDCLLinear,
    "kdcl_minlogit": KDCLMinLogit,
    "kdcl_general": KDCLGeneral,
    "pcl": PCL,
    "switokd": SwitOKD,
}


class Group(Protocol):
    """A group, as far as methods care."""

    @property
    def shape(self) -> GroupShape:
        """The sizes of the group."""
        ...

    def provide(self, needs: Needs, generator: torch.Generator | None = None) -> None:
        """Put out what `needs` ask for from now on."""
        ...


def find(name: str) -> type[Method]:
    """Return the class of a method: a key of METHODS, or "path/to/file.py:Name" for a user's own.

    Raises:
        UserError: there is no such method, file or class.
    """
    if ".py:" in name:
        return load_class(name, Method)
    if name.endswith(".py"):
        raise UserError(f"method {name!r}: name the class too, {name}:CLASS.")
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def options(name: str) -> dict[str, Any]:
    """The keyword options of a method with their defaults."""
    parameters = inspect.signature(find(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "generator"}


def check_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the types that the method's constructor annotates; what has no annotation stays as it is.

    Raises:
        UserError: an option that the method does not have, or a value of another type.
    """
    known = options(name)
    for option in given:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    try:
        hints = get_type_hints(find(name).__init__)
    except (NameError, AttributeError, TypeError):  # a user's file may name types that exist for its checker only
        hints = {}
    # A default may be of another type than its annotation says: None for one.
    kinds = {option: Any if value is known[option] else hints.get(option, Any) for option, value in given.items()}
    return {option: convert(kinds[option], value, option) for option, value in given.items()}


def needs_of(name: str, given: Mapping[str, Any]) -> Needs:
    """What the method `name` needs of group and executor with these options; see `Needs`.

    Raises:
        UserError: unknown method or option, or needs that make no sense.
    """
    method_class, checked = find(name), check_options(name, given)
    if ".py:" in name:
        try:
            return call(name, method_class.needs_of, checked)
        except UserError as error:
            raise UserError(f"method {name!r}: {error}") from error
    return method_class.needs_of(checked)


def build(
    name: str,
    group: Group | GroupShape,
    *,
    generator: torch.Generator | None = None,
    teachers: int = 0,
    **keywords: Any,
) -> Method:
    """Return the method `name` for a group, and let the group put out what the method needs.

    Args:
        name: a key of METHODS, or "path/to/file.py:Name".
        group: the group, or its shape alone.
        teachers: number of frozen teachers that an executor adds; those of the shape if 0.
        generator: draws the method's initial parameters and random choices; torch's default generator if None.
        keywords: the method's options; `options(name)` lists them with their defaults.

    Raises:
        UserError: unknown method or option, a value outside its range, or a group that the method has no meaning for.
    """
    method_class = find(name)
    keywords = check_options(name, keywords)
    needs = needs_of(name, keywords)
    if not isinstance(group, GroupShape):
        group.provide(needs, generator)
    if "generator" in inspect.signature(method_class).parameters:
        keywords["generator"] = generator
    shape = group if isinstance(group, GroupShape) else group.shape
    shape = dataclasses.replace(shape, teachers=teachers) if teachers else shape
    if needs.teachers == "required" and not shape.teachers:
        raise UserError(f"{name} without a teacher: give at least one frozen teacher (--teachers PATH).")
    if needs.teachers == "none" and teachers:
        raise UserError(f"teachers with the method {name!r}: it learns from none; leave them out, or use 'kd'.")
    if method_class.step is Method.step and method_class.forward is Method.forward:
        raise UserError(f"method {name!r} defines no step: write step(self, rows, progress) -> StepOutput.")
    own = ".py:" in name
    method = call(name, method_class, shape, **keywords) if own else method_class(shape, **keywords)
    check_built(method, name, shape, needs)
    method.needs = needs
    return method


def describe() -> list[dict[str, Any]]:
    """Name, one line, and options of every method, for `codistill list methods`."""
    rows = []
    for name, method in METHODS.items():
        text = (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " ").partition(": ")[2]
        rows.append(
            {
                "name": name,
                "what": text,
                "choose_it_when": AUDIENCE.get(name),
                "min_peers": method.min_peers,
                "needs": "shared trunk" if method.needs.trunk or method.needs.rescale_shared_gradients else None,
                "options": options(name),
            }
        )
    return rows
