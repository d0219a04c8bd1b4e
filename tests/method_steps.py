"""One step of every method on every kind of batch, on any device: what the tests of waiting and of replaying share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from codistill import methods
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

P, B, C, D, TRUNK, TEACHERS = 4, 6, 5, 16, 8, 2

CASES: list[tuple[str, dict[str, Any]]] = [
    ("baseline", {}),
    ("ind", {}),
    ("kd", {}),
    ("kd", {"teacher_weights": (0.3, 0.7)}),
    *(("dml", options) for options in (
        {}, {"target": "mean"}, {"target": "mean", "aggregate": "logits"}, {"gradient": "all"},
        {"updates": "alternating"}, {"target_epsilon": 1e-3}, {"preset": "released"},
    )),
    *((name, options) for name in ("cl_ilr", "clnn") for options in (
        {}, {"aggregate": "logits"}, {"gradient": "all"}, {"ramp_up": 0.0}, {"preset": "released"},
    )),
    *(("one", options) for options in (
        {}, {"aggregate": "probabilities"}, {"gradient": "all"}, {"ramp_up": 0.0}, {"preset": "released"},
    )),
    *(("okddip", options) for options in (
        {}, {"aggregate": "logits"}, {"leader_target": "logits"}, {"gradient": "all"}, {"gradient": "none"},
        {"include_self": True}, {"projection_init": "uniform"}, {"ramp_up": 0.0}, {"preset": "released"},
        {"ablation": "random"}, {"ablation": "random", "include_self": True}, {"ablation": "entropy"},
        {"ablation": "mean"}, {"ablation": "mean", "include_self": True}, {"ablation": "asymmetry"},
        {"ablation": "no_two_level"},
    )),
    ("kdcl_naive", {}),
    ("kdcl_linear", {}),
    ("kdcl_linear", {"per_batch": True}),
    ("kdcl_minlogit", {}),
    ("kdcl_general", {}),
    ("pcl", {}),
    ("pcl", {"ramp_up": 0.0}),
    ("switokd", {}),
    ("switokd", {"teacher": 1}),
]  # fmt: skip
"""Every method with every option that takes another way through its step."""

BATCHES = ("hard", "soft", "smoothed", "weighted", "ignored", "dense", "half")


def each_case(recordable: bool | None = None) -> Callable[[Any], Any]:
    """Parametrize a test with `name`, `options` and `batch`: all, or those that can be recorded, or that cannot."""
    found = [
        pytest.param(name, options, batch, id="-".join([name, *map(str, options.values()), batch]))
        for name, options in CASES
        for batch in BATCHES
        if (batch != "soft" or methods.METHODS[name].soft_labels)
        and recordable in (None, build(name, options).recordable)
    ]
    return pytest.mark.parametrize(("name", "options", "batch"), found)


def build(name: str, options: dict[str, Any], batch: str = "hard") -> methods.Method:
    peers = {"baseline": 1, "switokd": 2}.get(name, P)
    apart = name == "switokd" or options.get("updates") == "alternating"
    shape = GroupShape(peers, C, (D,) * peers, TRUNK, shares_trunk=not apart, teachers=TEACHERS * (name == "kd"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="okddip with")
        method = methods.build(name, shape, generator=torch.Generator().manual_seed(0), **options)
    method.label_smoothing = 0.1 * (batch == "smoothed")
    return method


@dataclass
class Inputs:
    """All that a step reads."""

    outputs: PeerOutputs
    labels: Tensor
    progress: Progress
    extra: dict[str, Any]

    @staticmethod
    def draw(method: methods.Method, batch: str, seed: int, device: str = "cpu") -> Inputs:
        """Draw them on the CPU; on another device they hold nothing."""
        generator = torch.Generator().manual_seed(seed)
        positions = (3,) if batch == "dense" else ()
        wide = torch.bfloat16 if batch == "half" else torch.float32
        peers = method.shape.peers

        def drawn(*shape: int, dtype: torch.dtype = wide) -> Tensor:
            if device != "cpu":
                return torch.empty(shape, dtype=dtype, device=device)
            return (3 * torch.randn(shape, generator=generator)).to(dtype)

        outputs = PeerOutputs(
            drawn(peers, B, *positions, C),
            tuple(drawn(B, D) for _ in range(peers)),
            drawn(B, TRUNK),
            teacher_logits_KBC=drawn(TEACHERS, B, *positions, C) if method.shape.teachers else None,
            averaged_logits_PBC=drawn(peers, B, *positions, C),
            averaged_features=tuple(drawn(B, D) for _ in range(peers)),
        )
        for tensor in outputs.tensors():
            tensor.requires_grad_()
        labels = drawn(B, *positions, dtype=torch.float32).mul(10).long().remainder(C)
        if batch == "soft":
            labels = drawn(B, C, dtype=torch.float32).softmax(-1)
        extra: dict[str, Any] = {}
        if batch in ("weighted", "ignored"):
            extra["sample_weights"] = drawn(B, dtype=torch.float32).clamp_min(0)
        if batch == "ignored":
            extra["ignore_index"] = 1
        epoch = drawn(dtype=torch.float64).abs() * 10
        return Inputs(outputs, labels, Progress(epoch, 300), extra)

    def step(self, method: methods.Method) -> StepOutput:
        return method(self.outputs, self.labels, self.progress, **self.extra)

    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        found: list[Tensor] = []
        self.outputs.map(lambda tensor: found.append(tensor) or tensor)
        weights = [self.extra["sample_weights"]] if "sample_weights" in self.extra else []
        return [*found, self.labels, self.progress.epoch, *weights]
