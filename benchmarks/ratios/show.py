"""Print each ratio as it is measured, or all of them as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import codistill
from ratios.race import Ratio
from ratios.setting import Setting
from ratios.suites import run_suites

__all__ = ["report"]


def report(suites: Sequence[str], setting: Setting, as_json: bool = False) -> None:
    """Measure and print; raises what `run_suites` raises."""
    if not as_json:
        print(f"{machine()}\n{given(setting)}")
    found = []
    for ratio in run_suites(suites, setting):
        found.append(ratio)
        if not as_json:
            print(line(ratio), flush=True)
    if as_json:
        rows = [{**dataclasses.asdict(ratio), "reached": ratio.reached} for ratio in found]
        print(json.dumps({"machine": machine(), "setting": given(setting), "rows": rows}, indent=1))


def line(ratio: Ratio) -> str:
    """Return one ratio as a line of text."""
    reached = {None: "", True: ": reached", False: ": NOT reached"}[ratio.reached]
    goal = f"  goal {ratio.goal}{reached}" if ratio.goal else ""
    return (
        f"{ratio.suite:<11}{ratio.what}: {ratio.above} {ratio.above_ms:.1f} / {ratio.below} {ratio.below_ms:.1f} = "
        f"{ratio.median:.3f} ({ratio.least:.3f} to {ratio.most:.3f}){goal}"
    )


def given(setting: Setting) -> dict[str, Any]:
    """Return the setting as JSON can hold it, without the paths that were left out."""
    values = dataclasses.asdict(setting)
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items() if v is not None}


def machine() -> dict[str, Any]:
    """Return the machine, its load and the versions that the numbers hold for."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {"codistill": codistill.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": load, **versions}
