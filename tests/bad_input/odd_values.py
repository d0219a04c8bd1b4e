"""Strategies of hypothesis: values of right and wrong types, and values that a type hint allows."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from codistill.errors import UserError
from codistill.rundir import Bins, Preparation, Summary, TrainingMeans
from codistill.rundir.summary import KIND

__all__ = ["examples", "fitting", "made", "odd", "result_or_sentence"]

TEXTS = ("", " ", "1e-4", "nan", "auto", "null", "~", "a.py:B", "1_000", "0x1F", "2001-99-99", "\x1b[31m", "=", "é☃")
NUMBERS = (-(2**63), -1, 0, 1, 2, 2**31, 2**63, 10**400, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"))

plain = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(-20, 20), st.floats(allow_nan=False), st.text(),
    st.sampled_from(TEXTS),
)  # fmt: skip

keys = st.one_of(st.text(max_size=8), st.integers(0, 9), st.sampled_from(("lr", "name", "version")))

odd = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
"""What YAML can hold, and no setting should."""

_shares = st.tuples(st.floats(0, 1))
ALLOWED: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Bins: {"count": st.tuples(st.integers(0, 9)), "confidence": _shares, "accuracy": _shares},
    TrainingMeans: {"loss_by_peer": _shares},
    Summary: {"kind": st.just(KIND), "headline": st.sampled_from(["leader", "mean"])},
    Preparation: {
        "channels": st.just(1), "resize": st.just("none"), "height": st.integers(1, 9), "width": st.integers(1, 9),
        "interpolation": st.just("bilinear"), "antialias": st.just(True), "mean": _shares, "std": _shares,
    },
}  # fmt: skip
"""Class of a record -> what it demands of its fields beyond their types."""


def examples(short: int) -> Any:
    """A test tries `short` examples, always the same ones; or as many random ones as CODISTILL_EXAMPLES says."""
    asked = os.environ.get("CODISTILL_EXAMPLES")
    return settings(
        max_examples=int(asked) if asked else short,
        derandomize=asked is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def result_or_sentence(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns; None where it is refused in one sentence. Any other exception passes."""
    said = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(*arguments)
        except UserError as refusal:
            said = str(refusal)
    assert said.strip()
    assert "\n" not in said
    return None


def made(kind: type) -> st.SearchStrategy[Any]:
    """Objects of a dataclass, each field as its type hint says, or as `ALLOWED` where the class takes less."""
    hints, allowed = typing.get_type_hints(kind), ALLOWED.get(kind, {})
    fields = {field.name: fitting(hints[field.name]) for field in dataclasses.fields(kind)}
    return st.builds(kind, **fields | allowed)


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type hint."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        bool: st.booleans(),
        Path: st.text("ab/. ", min_size=1, max_size=8).map(Path),
        Any: st.integers(0, 9) | st.text("ab", max_size=3),
        type(None): st.none(),
    }
    if hint in simple:
        return simple[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fitting(arguments[0])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(fitting, arguments))
    if origin is tuple:
        return st.lists(fitting(arguments[0]), max_size=3).map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(st.text("abc", min_size=1, max_size=3), fitting(arguments[1]), max_size=2)
    return made(hint)
