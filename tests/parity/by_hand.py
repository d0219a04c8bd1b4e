"""What the tests of values worked out by hand share: students with small fractions as predictions.

At temperature 1, C = 2:
    U = (0, 0)      -> p = (1/2, 1/2)      V = (log 3, 0) -> p = (3/4, 1/4)      S = (0, log 3) -> p = (1/4, 3/4)
At temperature T the logits T·U, T·V, T·S soften to the same fractions.
"""

from __future__ import annotations

import math
import warnings
from math import log

import pytest
import torch
from torch import Tensor

from codistill import methods
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

L3 = log(3)
U, V, S = (0.0, 0.0), (L3, 0.0), (0.0, L3)
END = Progress(epoch=300, epochs=300)  # every ramp-up is over


def f64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scaled(T: float, *vectors: tuple[float, ...]) -> Tensor:
    """[P, 1, C]: one image, each student's logits times T."""
    return f64([[[T * v for v in z]] for z in vectors])


def kl(t: list[float], q: list[float]) -> float:
    return math.fsum(a * log(a / b) for a, b in zip(t, q, strict=True) if a > 0)


def step(
    name: str,
    logits: Tensor,
    labels: list[int],
    progress: Progress = END,
    features: tuple[Tensor, ...] = (),
    trunk: Tensor | None = None,
    teachers: Tensor | None = None,
    setup: object = None,
    **options: object,
) -> StepOutput:
    m, B, C = logits.shape
    widths = tuple(h.shape[-1] for h in features) or (8,) * m
    shape = GroupShape(
        m, C, widths, trunk_width=2, shares_trunk=True, teachers=0 if teachers is None else len(teachers)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*peer.*")
        method = methods.build(name, shape, generator=torch.Generator().manual_seed(0), **options).double()
    if callable(setup):
        with torch.no_grad():
            setup(method)
    features = features or tuple(torch.zeros(B, 8, dtype=torch.float64) for _ in range(m))
    trunk = torch.zeros(B, 2, dtype=torch.float64) if trunk is None else trunk
    return method(PeerOutputs(logits, features, trunk, teachers), torch.tensor(labels), progress)


def check(result: StepOutput, by_peer: list[float], parts: dict[str, float], beside: float = 0.0) -> None:
    """The loss is the sum over the students, plus what stands beside them (the gate's ensemble)."""
    assert result.loss_by_peer.tolist() == pytest.approx(by_peer, rel=1e-12, abs=1e-14)
    assert result.loss.item() == pytest.approx(math.fsum(by_peer) + beside, rel=1e-12, abs=1e-14)
    assert {k: v.item() for k, v in result.parts.items()} == pytest.approx(parts, rel=1e-12, abs=1e-14)
