"""Runs that must come out the same on every mesh: what they are, and how one is run and compared with `loop`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mesh_groups import GROUPS
from torch import Tensor

import probes
from codistill import execution, methods
from codistill.execution import Executor
from codistill.types import Progress

TEACHERS = 2
MESHES = ("data=1,peer=1", "data=2,peer=1", "data=1,peer=2", "data=2,peer=2", "data=1,peer=4", "data=4,peer=1")
ONE, ROWS, STUDENTS, BOTH, EACH, QUARTERS = MESHES
APART, TOGETHER, ALL = (STUDENTS, BOTH), (ROWS, QUARTERS), MESHES


@dataclass(frozen=True)
class Case:
    """One short training.

    Attributes:
        method: a name, or the class of a probe.
        options: of the method.
        group: a key of `GROUPS`.
        meshes: on which it is run.
        execution: options of the executor.
        images: of a step's batch; every fourth one has one more, which no mesh can divide evenly.
        icl: one view per student.
        accumulate: batches of one step of the optimizer.
        freeze: whether a layer of every student stands still in some of the steps.
        given: whether images have weights, and some labels count for nothing.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str = "networks"
    meshes: tuple[str, ...] = APART
    execution: Mapping[str, Any] = field(default_factory=dict)
    images: int = 16
    icl: bool = False
    accumulate: int = 1
    freeze: bool = False
    given: bool = False


CASES: dict[str, Case] = {
    "baseline": Case("baseline", group="alone", meshes=(ROWS,)),
    "ind": Case("ind"),
    "kd": Case("kd", meshes=(*APART, ROWS)),
    "kd, few images": Case("kd", meshes=(BOTH,), images=3),
    "dml": Case("dml", meshes=ALL),
    "dml mean": Case("dml", {"target": "mean", "gradient": "all"}, meshes=(BOTH,)),
    "dml alternating": Case("dml", {"updates": "alternating"}, meshes=APART),
    "cl_ilr": Case("cl_ilr", group="branches", meshes=(ROWS,)),
    "clnn": Case("clnn", group="tree", meshes=(ROWS,)),
    "one": Case("one", group="branches", meshes=(ROWS,)),
    "okddip": Case("okddip", meshes=(*APART, ONE)),
    "okddip branches": Case("okddip", group="branches", meshes=TOGETHER),
    "okddip released": Case("okddip", {"preset": "released"}, meshes=(BOTH,)),
    "okddip all": Case("okddip", {"gradient": "all", "aggregate": "logits", "include_self": True}, meshes=(BOTH,)),
    "okddip random": Case("okddip", {"ablation": "random"}, meshes=(BOTH,)),
    "okddip asymmetry": Case("okddip", {"ablation": "asymmetry", "projection_init": "uniform"}, meshes=(BOTH,)),
    "kdcl_naive": Case("kdcl_naive"),
    "kdcl_linear": Case("kdcl_linear"),
    "kdcl_minlogit": Case("kdcl_minlogit"),
    "kdcl_general": Case("kdcl_general", meshes=(*APART, ROWS)),
    "pcl": Case("pcl", meshes=(*APART, ROWS)),
    "switokd": Case("switokd", group="pair"),
    "average": Case("dml", execution={"average": 0.9}, meshes=(BOTH,)),
    "average of branches": Case("dml", group="branches", execution={"average": 0.9}, meshes=(ROWS,)),
    "maps": Case("Maps", {"path": "stage1"}, meshes=(BOTH,)),
    "heads": Case("Heads", {"path": "stage2"}, meshes=(BOTH, ROWS)),
    "heads of a tree": Case("Heads", {"path": "stage2"}, group="tree", meshes=(ROWS,)),
    "mixed": Case("Mixed", meshes=(BOTH, ROWS, EACH)),
    "mixed tree": Case("Mixed", group="tree", meshes=(ROWS,)),
    "averaged": Case("Averaged", meshes=(BOTH,)),
    "paused": Case("Paused", meshes=(*APART, ROWS)),
    "turns": Case("Turns", meshes=(BOTH,)),
    "everything": Case("Everything", meshes=(*APART, QUARTERS)),
    "everything of branches": Case("Everything", group="branches", meshes=(ROWS,)),
    "icl": Case("okddip", icl=True, meshes=APART),
    "icl of branches": Case("dml", group="branches", icl=True, meshes=(ROWS,)),
    "unlike": Case("okddip", group="unlike", meshes=(*APART, EACH)),
    "unlike, icl": Case("pcl", group="unlike", icl=True, meshes=(BOTH,)),
    "accumulated": Case("dml", accumulate=2, meshes=(BOTH, ROWS)),
    "accumulated, paused": Case("Paused", accumulate=2, meshes=(BOTH,)),
    "frozen": Case("dml", freeze=True, meshes=(BOTH, ROWS)),
    "weights": Case("okddip", given=True, meshes=(BOTH,)),
    "dense": Case("dml", group="dense", meshes=(BOTH, QUARTERS)),
    "dense, weights": Case("Turns", group="dense", given=True, meshes=(BOTH,)),
    "one image each": Case("dml", group="vector", images=4, meshes=(QUARTERS,)),
    **{
        group: Case("dml", group=group, meshes=(BOTH, QUARTERS) if group == "vector" else (BOTH,))
        for group in (
            *("vector", "spare layer", "no norm", "group norm", "momentum None", "not affine", "untracked"),
            *("norm with activation", "channels last"),
        )
    },
}


def trained(
    case: Case, own: Path, steps: int, dtype: torch.dtype, executor: str, **options: Any
) -> tuple[Executor, dict[str, Tensor]]:
    """Train, and return the executor with all that came of it, by "kind/name"."""
    torch.manual_seed(0)
    made = _made(case, own, dtype, executor, **options)
    found: dict[str, Tensor] = {}
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    for step in range(steps):
        if case.freeze:
            for of_peer in made.group.networks:
                of_peer.stage1.requires_grad_(step % 8 >= 4)
        for turn in range(made.group.shape.peers) if made.method.needs.turns else (None,):
            _one_step(made, optimizer, case, step, turn, dtype, found)
        if made.method.needs.held_out and step % 6 == 5:
            _renew(made, dtype)
    made.train(False)
    for images in (7, 1):
        (view,), _ = probes.batch_of(images, seed=99)
        found[f"predicted/{images}"] = made.predict(view.to(dtype)).logits_PBC
    made.assemble()
    for part, module in made.modules().items():
        for name, value in module.state_dict().items():
            kind = "statistics" if "running_" in name or "num_batches" in name else "weights"
            found[f"{kind}/{part}.{name}"] = value.detach().clone()
    return made, found


def _made(case: Case, own: Path, dtype: torch.dtype, executor: str, **options: Any) -> Executor:
    group = GROUPS[case.group]().to(dtype)
    name = case.method if case.method in methods.METHODS else f"{own}:{case.method}"
    taught = methods.needs_of(name, case.options).teachers != "none"
    teachers = [probes.staged(100 + k).to(dtype) for k in range(TEACHERS * taught)]
    generator = torch.Generator().manual_seed(5)
    method = methods.build(name, group, generator=generator, teachers=len(teachers), **case.options).to(dtype)
    made = execution.build(executor, group, method, teachers=teachers, **case.execution, **options)
    made.train()
    return made


def _one_step(
    executor: Executor,
    optimizer: torch.optim.Optimizer,
    case: Case,
    step: int,
    turn: int | None,
    dtype: torch.dtype,
    found: dict[str, Tensor],
) -> None:
    optimizer.zero_grad(set_to_none=True)
    scale = None if case.accumulate == 1 else 1 / case.accumulate
    for part in range(case.accumulate):
        views, labels_B, given = _batch(case, executor, 100 * part + step, dtype)
        out, outputs = executor.train_step(views, labels_B, Progress(step, 10), turn, scale=scale, **given)
    key = f"{step}.{turn}"
    found[f"loss/{key}"], found[f"loss/{key} by student"] = out.loss.detach(), out.loss_by_peer.detach()
    if step < 2:
        # What the method reads: a mesh does not gather features that it does not.
        read = outputs if executor.method.needs.features else dataclasses.replace(outputs, features=())
        found |= {f"outputs/{key} {i}": t.detach().clone() for i, t in enumerate(read.tensors())}
        found |= {f"gradients/{key} {n}": p.grad.clone() for n, p in _named(executor) if p.grad is not None}
    optimizer.step()
    executor.after_step()


def _batch(case: Case, executor: Executor, seed: int, dtype: torch.dtype) -> tuple[Any, Tensor, dict[str, Any]]:
    images = case.images + (seed % 4 == 3)
    views, labels_B = probes.batch_of(images, executor.group.shape.peers if case.icl else 1, seed)
    generator = torch.Generator().manual_seed(seed)
    if case.group == "dense":
        labels_B = torch.randint(probes.CLASSES, (images, 4, 4), generator=generator)
    views, given = [view.to(dtype) for view in views], {}
    if case.given:
        given = {"sample_weights": torch.rand(labels_B.shape, generator=generator).to(dtype), "ignore_index": 1}
    if case.group == "pair":
        # One network is right in every image, so that the other one is paused.
        with torch.no_grad():
            labels_B = executor.forward(views[0]).logits_PBC[seed % 2].argmax(-1)
    return views if case.icl else views[0], labels_B, given


def _renew(executor: Executor, dtype: torch.dtype) -> None:
    executor.train(False)
    (view,), labels_B = probes.batch_of(9, seed=77)
    executor.method.renew(executor.predict(view.to(dtype)).logits_PBC.softmax(-1), labels_B)
    executor.train()


def _named(executor: Executor) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for part in (executor.group, executor.method):
        for name, parameter in part.named_parameters():
            yield f"{type(part).__name__}.{name}", parameter


def differences(executor: Executor, found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest difference of each kind, relative where the expected value is above 1; infinite where one is missing.

    Gradients of other processes' students are to be missing.
    """
    elsewhere = {id(p) for p in executor.elsewhere}
    others = {name for name, parameter in _named(executor) if id(parameter) in elsewhere}
    wanted = {k: v for k, v in expected.items() if not (k.startswith("gradients/") and k.split(" ", 1)[1] in others)}
    largest = {name.split("/", 1)[0]: 0.0 for name in expected}
    for name in wanted.keys() | found.keys():
        kind, apart = name.split("/", 1)[0], float("inf")
        with suppress(KeyError):
            value, goal = found[name].double(), wanted[name].double()
            gap = ((value - goal).abs() / goal.abs().clamp_min(1)).max() if value.shape == goal.shape else apart
            apart = float(gap) if bool(torch.as_tensor(gap).isfinite()) else float("inf")
        largest[kind] = max(largest.get(kind, apart), apart)
    return largest
