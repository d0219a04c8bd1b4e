"""Checks of every method on the device: numbers as on the CPU, graphs, no waiting; and KDCL-Linear's certificate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.methods import METHODS
from codistill.targets import linear
from on_gpu.check_executors import WIDE, agree
from on_gpu.sessions import group_kind, random_batch
from on_gpu.toys import TINY, session_on, step_without_waiting, traced

__all__ = ["CHECKS"]

CERTIFIED = 1e-6
"""Nats above the true minimum that KDCL-Linear allows itself."""

SOLVED = {"loss": 1e-4, "gradient": 2e-2, "weight": 1e-4}
"""Tolerances for a target that is a solution within `CERTIFIED`: many mixtures of the students are as good as that."""

TURNS = {"updates": "alternating"}


def _settings(name: str, **more: Any) -> dict[str, Any]:
    peers = min(4, METHODS[name].max_peers or 4)
    return {"peers": peers, "method": name, "group": group_kind(name), **more}


def as_on_the_cpu(name: str, device: torch.device) -> None:
    """One step in fp64 gives loss, gradients and weights of the same step on the CPU."""
    settings = _settings(name, dtype=torch.float64)
    expected = traced(session_on(torch.device("cpu"), **settings), steps=1)
    solved = name == "kdcl_linear"
    agree(traced(session_on(device, **settings), steps=1), expected, **(SOLVED if solved else WIDE))


def recordable(name: str, options: dict[str, Any], device: torch.device) -> None:
    """Steps replayed from a graph equal those that are not, while ramp-ups move; or graphs are refused."""
    settings = _settings(name, method_options=options)
    session = session_on(device, **settings)
    if not getattr(session.executor.method, "recordable", True):
        try:
            session_on(device, **settings, cuda_graphs=True)
        except UserError:
            return
        raise AssertionError(f"{name} cannot be recorded, and graphs are not refused")
    agree(traced(session_on(device, **settings), graphs=True), traced(session))


def waits_for_nothing(name: str, device: torch.device) -> None:
    """No operation of a step makes the host wait; SwitOKD's executor has to."""
    if getattr(METHODS[name], "recordable", True):
        step_without_waiting(session_on(device, **_settings(name)), random_batch(TINY, device))


def certified(name: str, device: torch.device) -> None:
    """The duality gap, written out here in fp64, certifies what the solver returns."""
    for P, B, C in ((2, 64, 2), (3, 64, 10), (4, 128, 100), (8, 64, 30)):
        own = torch.Generator().manual_seed(P * C)
        logits_PBC = torch.randn(P, B, C, generator=own, dtype=torch.float64)
        labels_B = torch.randint(C, (B,), generator=own)
        logits_PBC = LOGITS[name](logits_PBC, labels_B).to(device)
        labels_B = labels_B.to(device)
        weights_PB = linear(logits_PBC, labels_B)[1]
        assert bool((weights_PB >= 0).all())
        assert float((weights_PB.sum(0) - 1).abs().max()) < 1e-9
        gap = float(_gap(logits_PBC, labels_B, weights_PB).max())
        assert gap <= CERTIFIED, f"{P} × {B} × {C}: the gap is {gap:.2e} nats"


def _gap(logits_PBC: Tensor, labels_B: Tensor, weights_PB: Tensor) -> Tensor:
    D_PBC = logits_PBC - logits_PBC.gather(2, labels_B.expand(len(logits_PBC), -1).unsqueeze(2))
    mixed_BC = (weights_PB.unsqueeze(2) * D_PBC).sum(0)
    g_PB = (D_PBC * mixed_BC.softmax(1)).sum(2)
    return (weights_PB * g_PB).sum(0) - g_PB.amin(0)


def _label_at(value: float, logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    return logits_PBC.scatter(2, labels_B.expand(len(logits_PBC), -1).unsqueeze(2), value)


LOGITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{f"deviation {s:g}": lambda z, y, s=s: z * s for s in (0.01, 1.0, 3.0, 10.0, 100.0, 1000.0)},
    "signs times 10,000": lambda z, y: z.sign() * 1e4,
    "equal students": lambda z, y: z[:1].expand_as(z) * 5,
    "nearly equal students": lambda z, y: z[:1] * 5 + z * 1e-9,
    "label far above": lambda z, y: _label_at(30.0, z * 3, y),
    "label far below": lambda z, y: _label_at(-300.0, z * 3, y),
    "scales far apart": lambda z, y: z * torch.logspace(-3, 3, len(z), dtype=z.dtype).view(-1, 1, 1),
    "all zero": lambda z, y: z * 0,
}
"""Name -> logits of that kind from normal ones and the labels."""

CHECKS: dict[str, Callable[[torch.device], None]] = {
    **{f"{name} on the device as on the CPU": partial(as_on_the_cpu, name) for name in METHODS},
    **{f"{name} with graphs": partial(recordable, name, {}) for name in METHODS},
    "dml in turns, with graphs": partial(recordable, "dml", TURNS),
    **{f"{name} makes the host wait for nothing": partial(waits_for_nothing, name) for name in METHODS},
    **{f"KDCL-Linear is certified, {name}": partial(certified, name) for name in LOGITS},
}
"""Name -> check."""
