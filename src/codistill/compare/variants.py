"""The variants of a comparison: the network alone, the methods, and what else the same computation could buy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codistill import methods
from codistill.compare.request import CompareRequest
from codistill.config import Config, apply_settings, default_label
from codistill.errors import UserError, unknown

__all__ = [
    "ALONE", "CHEAP", "LONGER", "METHOD", "Variant", "base_config", "cheap_variants", "longer", "make_variants",
    "settled",
]  # fmt: skip

ALONE, METHOD, CHEAP, LONGER = "alone", "method", "cheap", "longer"
"""Kinds of variants: the network alone; a method; the network alone with a cheap trick, or trained for longer."""

MAY_DIFFER = ("group", "split", "icl", "peers", "augment.policies")
"""Settings that may differ between methods, besides their own options."""

IN_LABEL = ("group", "icl", "augment.policies")
"""Those of them that the default label names."""

NOT_SET = {
    "method": "a comparison takes several methods: name them with --methods",
    "label": "each variant of a comparison is named after its settings: leave the label out",
}
"""Settings that a comparison has no option for -> the rule and the remedy."""

OWN_OPTION = "method_options."
SMOOTHING, AVERAGE = 0.1, 0.999
TAUGHT = "kd"
"""The method that --teacher adds if no other one takes a teacher."""


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Attributes:
        name: its label, which is unique.
        kind: ALONE, METHOD, CHEAP or LONGER.
        config: what is trained, without seed and folder.
        given: the method's options that the user has set, and that tuning leaves alone.
    """

    name: str
    kind: str
    config: Config
    given: frozenset[str] = frozenset()


def settled(request: CompareRequest) -> CompareRequest:
    """Return the request with the settings of --set in place of its own: the first seed and the folder, too.

    Raises:
        UserError: an unknown setting, a value of the wrong type, or a setting that a comparison has no option for.
    """
    settings = [one for group in request.set for one in group]
    for one in settings:
        if rule := NOT_SET.get(one.partition("=")[0]):
            raise UserError(f"--set {one}: {rule}.")
    names = [field.name for field in dataclasses.fields(Config)]
    config = apply_settings(Config(**{name: getattr(request, name) for name in names}), settings)
    return dataclasses.replace(request, set=(), **{name: getattr(config, name) for name in names})


def base_config(request: CompareRequest) -> Config:
    """Return the settings that all variants share, with those of --set; UserError as `settled`."""
    request = settled(request)
    fields = {f.name: getattr(request, f.name) for f in dataclasses.fields(Config)}
    return dataclasses.replace(Config(**fields), label=None, out=None)


def make_variants(request: CompareRequest) -> list[Variant]:
    """Return the network alone, then the methods in the order in which they are named.

    Raises:
        UserError: an unknown method or option; a method twice, or one that trains a single network anyway; several
            networks; a setting that must not differ, or is given twice; a teacher that is missing, or that no method
            takes.
    """
    base = base_config(request)
    for name, what in (("model", "networks"), ("init", "starts")):
        if len(getattr(base, name)) > 1:
            raise UserError(
                f"{len(getattr(base, name))} {what}: a comparison asks whether one network gains; give one --{name}, "
                "or train the groups with 'codistill train' and compare them with 'codistill report'."
            )
    teachers = (request.teacher,) if request.teacher else base.teachers
    specs = [spec for spec in request.methods if not _is_alone(spec)]
    if teachers and not any(_needs(spec) != "none" for spec in specs):
        specs.append(TAUGHT)
    if not specs:
        raise UserError("no methods: name those to compare with the network alone, such as --methods okddip dml.")
    found = [_alone(base), *(_method(spec, base, teachers) for spec in specs)]
    names = [variant.name for variant in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"methods {twice!r} is named twice: name each variant once.")
    _refuse_options_of_none(base.method_options, found)
    return found


def cheap_variants(alone: Variant) -> list[Variant]:
    """Return the network alone with label smoothing and with averaged weights, unless all variants have these."""
    tricks = {"label_smoothing": (SMOOTHING, "label smoothing"), "average": (AVERAGE, "averaged weights")}
    found = []
    for setting, (value, text) in tricks.items():
        if hasattr(alone.config, setting) and not getattr(alone.config, setting):
            name = f"{alone.name}, {text}"
            config = dataclasses.replace(alone.config, label=name, **{setting: value})
            found.append(Variant(name, CHEAP, config))
    return found


def longer(alone: Variant, epochs: int) -> Variant:
    """Return the network alone, trained for this many epochs."""
    name = f"{alone.name}, {epochs} epochs"
    return Variant(name, LONGER, dataclasses.replace(alone.config, epochs=epochs, label=name))


def _alone(base: Config) -> Variant:
    single = {"method": "baseline", "peers": 1, "group": "networks", "split": None, "icl": False, "teachers": ()}
    config = dataclasses.replace(base, **single, method_options={}, label="alone")
    if len(config.augment.policies) > 1:
        raise UserError(
            f"{len(config.augment.policies)} augmentation policies: the network alone sees one; give one for all, and "
            "several to a method (--methods 'NAME,icl=true,augment.policies=[...]')."
        )
    return Variant("alone", ALONE, config)


def _split(spec: str) -> tuple[str, list[str]]:
    """Return name and settings of "okddip,group=branches,icl=true"; a comma inside a value separates nothing."""
    name, *settings = re.split(r",(?=[A-Za-z_][\w.]*=)", spec)
    return name, settings


def _is_alone(spec: str) -> bool:
    """Whether this names the network alone, as it is in every comparison anyway."""
    name, settings = _split(spec)
    return methods.find(name).max_peers == 1 and not settings


def _needs(spec: str) -> str:
    """Return whether the method takes teachers; its other needs do not matter here."""
    return methods.needs_of(_split(spec)[0], {}).teachers


def _method(spec: str, base: Config, teachers: Sequence[str]) -> Variant:
    name, settings = _split(spec)
    options = methods.options(name)
    if methods.find(name).max_peers == 1:
        raise UserError(f"methods {spec!r}: the network alone is in every comparison as it is; leave it out.")
    settings = [OWN_OPTION + one if one.partition("=")[0] in options else one for one in settings]
    _check_settings(spec, [one.partition("=")[0] for one in settings])
    taught = _needs(spec)
    if taught == "required" and not teachers:
        raise UserError(f"methods {name!r} needs a teacher: name a finished run or a network with --teacher.")
    shared = {option: value for option, value in base.method_options.items() if option in options}
    config = dataclasses.replace(
        base, method=name, method_options=shared, teachers=() if taught == "none" else tuple(teachers)
    )
    if taught == "required":
        # A student of a frozen teacher is trained on its own, whatever the size of the groups.
        config = dataclasses.replace(config, peers=1, group="networks", split=None, icl=False)
    config = apply_settings(config, settings)
    needs = methods.needs_of(name, config.method_options)
    if config.group == "networks" and (needs.trunk or needs.rescale_shared_gradients):
        raise UserError(f"methods {spec!r} needs students that share a trunk: name it '{spec},group=branches'.")
    others = [one for one in settings if one.partition("=")[0] not in IN_LABEL]
    shown = [one.removeprefix(OWN_OPTION).replace("=", " ") for one in others]
    label = ", ".join([default_label(config), *shown])
    return Variant(label, METHOD, dataclasses.replace(config, label=label), frozenset(config.method_options))


def _check_settings(spec: str, names: Sequence[str]) -> None:
    """Raise UserError for a setting that must not differ between methods, and for one that is given twice."""
    for name in names:
        if name not in MAY_DIFFER and not name.startswith(OWN_OPTION):
            raise UserError(
                f"methods {spec!r}: {name} must be the same for all; only {', '.join(MAY_DIFFER)} and the method's "
                "own options may differ."
            )
        if names.count(name) > 1:
            given = name.removeprefix(OWN_OPTION)
            raise UserError(f"methods {spec!r}: {given} is given twice; give each setting of a variant once.")


def _refuse_options_of_none(given: Mapping[str, Any], variants: Sequence[Variant]) -> None:
    known = {option for variant in variants for option in methods.options(variant.config.method)}
    for option in given:
        if option not in known:
            raise unknown("option of the methods compared", option, known)
