"""How OKDDip is read: by the equations on the slides, or as in its authors' released code.

A reading applies to every column of a table, so that all methods are compared under one reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codistill.errors import unknown

__all__ = ["READINGS", "Reading", "find_reading"]

SHARED = (
    "In both readings the soft terms of CL-ILR, ONE and OKDDip ramp up over the first 80 of 300 epochs, as in the "
    "released code (the slides have no ramp-up), and some training images are set aside for validation (in the "
    "released code none are)."
)


@dataclass(frozen=True)
class Reading:
    """One way to read the paper.

    Attributes:
        what: what it sets, for reports.
        settings: fields of Config, for every column.
        options: method -> its method options.
        vgg: further options of okddip on a VGG network.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    vgg: Mapping[str, Any] = field(default_factory=dict)

    def method_options(self, method: str, network: str) -> dict[str, Any]:
        """Return the options of a method on one of the paper's networks."""
        on_vgg = self.vgg if method == "okddip" and network.startswith("vgg") else {}
        return {**self.options.get(method, {}), **on_vgg}


RELEASED = {"preset": "released"}
READINGS = {
    "slides": Reading(
        "OKDDip by the slides' equations, in which a peer also attends to itself. The slides do not say where the "
        "gradient stops: here the predictions inside targets are detached, the attention is not. They do not define "
        "the other methods either: here DML learns from the mean of the others' probabilities at T = 3, detached; "
        f"CL-ILR and ONE have this library's defaults. {SHARED}",
        options={"dml": {"temperature": 3.0, "target": "mean"}, "okddip": {"include_self": True}},
    ),
    "released": Reading(
        "every column as in the code that OKDDip's authors released. In DML, CL-ILR, ONE and OKDDip targets are made "
        "of logits, nothing is detached and 1e-7 is added to each target. A peer also attends to itself. VGG, DenseNet "
        "and OKDDip's attention have the released initial weights. The last, smaller batch of an epoch is also trained "
        f"on. {SHARED}",
        settings={"initialisation": "released", "last_batch": "keep"},
        options={
            **dict.fromkeys(("dml", "cl_ilr", "one"), RELEASED),
            # The paper's sum includes the peer itself in both readings; the method's default does not.
            "okddip": {**RELEASED, "include_self": True},
        },
        vgg={"projection_init": 0.01},
    ),
}


def find_reading(name: str) -> Reading:
    """Return a reading by name; UserError for an unknown one."""
    if name not in READINGS:
        raise unknown("reading", name, READINGS)
    return READINGS[name]
