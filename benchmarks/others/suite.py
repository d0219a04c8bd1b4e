"""The suite `others`: whole epochs against other people's code, which the user names by its folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from codistill import models
from others.dml import kdlib_epoch, load_kdlib, load_pytorch_dml, pytorch_dml_epoch
from others.okddip import load_okddip, okddip_epochs
from others.task import TINY_MODEL, Task
from ratios.race import Ratio, Timed, race, ratio
from ratios.setting import Setting
from ratios.steps import LARGE, TINY, Size

__all__ = ["dml_tasks", "okddip_tasks", "others_suite"]

RESNET20 = Size("ResNet-20, batch 128, 3 × 32 × 32", partial(models.build, "resnet20"), (3, 32, 32), 128, 100)
TINY_BATCHES = 10
"""An epoch of tiny networks has this many times as many batches: a shorter one would measure noise."""
Compare = Callable[[ModuleType, Setting], Iterator[Ratio]]


def others_suite(setting: Setting) -> Iterator[Ratio]:
    """Compare with all code whose path is given; print one line on standard error for each path that is not.

    The code is imported when this function is called, before anything is measured.

    Raises:
        UserError: a wrong path, or code of another version.
    """
    parts: list[tuple[str, Path | None, Callable[[Path], ModuleType], Compare]] = [
        ("okddip", setting.okddip, load_okddip, _okddip),
        ("pytorch-dml", setting.pytorch_dml, load_pytorch_dml, partial(_dml, "pytorch-dml", pytorch_dml_epoch)),
        ("kdlib", setting.kdlib, load_kdlib, partial(_dml, "KD-Lib", kdlib_epoch)),
    ]
    found = []
    for name, path, load, compare in parts:
        if path is None:
            print(f"others: {name} is left out; --{name} PATH names the folder that holds its code", file=sys.stderr)
        else:
            found.append(compare(load(path), setting))
    return (row for rows in found for row in rows)


def okddip_tasks(batches: int) -> Iterator[tuple[Task, str]]:
    """Yield what is trained next to the released OKDDip code, by its equations, with the goal of an epoch."""
    options: dict[str, Any] = {"preset": "released", "ramp_up": 0.0}
    yield Task(LARGE, "resnet32", batches, 4, "okddip", options), "≥ 1.3"
    yield Task(LARGE, "resnet32", batches, 4, "okddip", options, group="branches"), "≥ 1.3"
    yield Task(TINY, TINY_MODEL, TINY_BATCHES * batches, 4, "okddip", options, executor="fused"), "≥ 2.5"


def dml_tasks(batches: int) -> dict[str, Task]:
    """Return for each package what is trained next to it; the students are updated in the order of that package."""
    return {
        name: Task(RESNET20, "resnet20", batches, 2, "dml", {"updates": updates})
        for name, updates in (("pytorch-dml", "simultaneous"), ("KD-Lib", "alternating"))
    }


def _okddip(code: ModuleType, setting: Setting) -> Iterator[Ratio]:
    for task, goal in okddip_tasks(setting.batches):
        what = f"of four {task.size.name}, {task.group}"
        train, evaluate = okddip_epochs(code, task)
        yield _side_by_side("released OKDDip", train, task.our_epoch, setting, f"a training epoch {what}", goal)
        yield _side_by_side("released OKDDip", evaluate, task.our_evaluation, setting, f"an evaluation {what}", "≥ 1.5")


def _dml(name: str, make: Callable[[ModuleType, Task], Timed], code: ModuleType, setting: Setting) -> Iterator[Ratio]:
    task = dml_tasks(setting.batches)[name]

    def ours() -> None:
        task.our_epoch()
        task.our_evaluation()

    what = f"DML, an epoch and its evaluation of two {task.size.name}"
    yield _side_by_side(name, make(code, task), ours, setting, what, "≥ 1.5")


def _side_by_side(name: str, theirs: Timed, ours: Timed, setting: Setting, what: str, goal: str) -> Ratio:
    times = race({name: theirs, "codistill": ours}, setting.turns, 1, setting.clock)
    return ratio(times, name, "codistill", "others", what, goal)
