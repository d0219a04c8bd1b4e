"""The suite `others`: whole epochs side by side with other people's code, whose paths the user gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from codistill import models
from codistill.bench.others_dml import kdlib_step, load_kdlib, load_pytorch_dml, pytorch_dml_step
from codistill.bench.others_okddip import load_okddip, okddip_steps
from codistill.bench.others_task import TINY_MODEL, Step, Task
from codistill.bench.race import Ratio, race, ratio
from codistill.bench.steps import LARGE, TINY, Size

if TYPE_CHECKING:
    from codistill.bench.suites import Setting

__all__ = ["dml_tasks", "okddip_tasks", "others_suite"]

RESNET20 = Size("ResNet-20, batch 128, 3 × 32 × 32", partial(models.build, "resnet20"), (3, 32, 32), 128, 100)
TINY_BATCHES = 10
"""Tiny epochs have this many times as many batches, or a clock would see noise."""
Compare = Callable[[ModuleType, "Setting"], Iterator[Ratio]]


def others_suite(setting: Setting) -> Iterator[Ratio]:
    """All whose path is given; one line on standard error for each that is not.

    Everything is imported when this is called, before anything is measured.

    Raises:
        UserError: a wrong path, or code of another version.
    """
    parts: list[tuple[str, Path | None, Callable[[Path], ModuleType], Compare]] = [
        ("okddip", setting.okddip, load_okddip, _okddip),
        ("pytorch-dml", setting.pytorch_dml, load_pytorch_dml, partial(_dml, "pytorch-dml", pytorch_dml_step)),
        ("kdlib", setting.kdlib, load_kdlib, partial(_dml, "KD-Lib", kdlib_step)),
    ]
    found = []
    for name, path, load, compare in parts:
        if path is None:
            print(f"others: {name} is left out; --{name} PATH names the folder that holds its code", file=sys.stderr)
        else:
            found.append(compare(load(path), setting))
    return (row for rows in found for row in rows)


def okddip_tasks(batches: int) -> Iterator[tuple[Task, str]]:
    """What is trained beside the released OKDDip code, with its equations, and the goals of an epoch."""
    options: dict[str, Any] = {"preset": "released", "ramp_up": 0.0}
    yield Task(LARGE, "resnet32", batches, 4, "okddip", options), "≥ 1.3"
    yield Task(LARGE, "resnet32", batches, 4, "okddip", options, group="branches"), "≥ 1.3"
    yield Task(TINY, TINY_MODEL, TINY_BATCHES * batches, 4, "okddip", options, executor="fused"), "≥ 2.5"


def dml_tasks(batches: int) -> dict[str, Task]:
    """By package: what is trained beside it, updating the students in its way."""
    return {
        name: Task(RESNET20, "resnet20", batches, 2, "dml", {"updates": updates})
        for name, updates in (("pytorch-dml", "simultaneous"), ("KD-Lib", "alternating"))
    }


def _okddip(code: ModuleType, setting: Setting) -> Iterator[Ratio]:
    for task, goal in okddip_tasks(setting.batches):
        what = f"of four {task.size.name}, {task.group}"
        train, evaluate = okddip_steps(code, task)
        yield _side_by_side("released OKDDip", train, task.our_epoch, setting, f"a training epoch {what}", goal)
        yield _side_by_side("released OKDDip", evaluate, task.our_evaluation, setting, f"an evaluation {what}", "≥ 1.5")


def _dml(name: str, make: Callable[[ModuleType, Task], Step], code: ModuleType, setting: Setting) -> Iterator[Ratio]:
    task = dml_tasks(setting.batches)[name]

    def ours() -> None:
        task.our_epoch()
        task.our_evaluation()

    what = f"DML, an epoch and its evaluation of two {task.size.name}"
    yield _side_by_side(name, make(code, task), ours, setting, what, "≥ 1.5")


def _side_by_side(name: str, theirs: Step, ours: Step, setting: Setting, what: str, goal: str) -> Ratio:
    times = race({name: theirs, "codistill": ours}, setting.turns, 1, setting.clock)
    return ratio(times, name, "codistill", "others", what, goal)
