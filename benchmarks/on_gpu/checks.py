"""All checks by name: each takes a device, and raises AssertionError where the library does not do what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from on_gpu import check_executors, check_methods, check_runs
from on_gpu.setting import Measurement, Numbers, Setting

__all__ = ["CHECKS", "ON_A_CPU", "checks"]

CHECKS: dict[str, Callable[[torch.device], None]] = {
    **check_executors.CHECKS,
    **check_runs.CHECKS,
    **check_methods.CHECKS,
}
"""Name -> check; the tests run the same ones."""


ON_A_CPU = [
    *(name for name in check_executors.CHECKS if not name.startswith("streams")),
    *check_runs.CHECKS,
    *(name for name in check_methods.CHECKS if "certified" in name or name.startswith(("okddip", "switokd"))),
]
"""Those that hold the library to something on a CPU too, or show that the check itself runs."""


def checks(setting: Setting) -> Iterator[Measurement]:
    """Every check as a measurement without numbers."""
    for name, check in CHECKS.items():
        yield Measurement(name, partial(_run, check, setting.device))


def _run(check: Callable[[torch.device], None], device: torch.device) -> Numbers:
    check(device)
    return {}
