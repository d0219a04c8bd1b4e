"""Random cases, the library's side and the reference's side of a comparison, and the table of largest deviations.

Shape letters as in codistill.types. A case is made in float64 or float32; the reference always gets the same values
in float64. With CODISTILL_PARITY_TABLE=1 pytest prints the largest deviation seen for every method.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import reference
import reference_newer
import reference_okddip
import reference_targets
import torch
from reference import Label, Reference, Vectors
from torch import Tensor

from codistill import methods
from codistill import targets as targets_of_library
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput

COLLABORATING = ["dml", "cl_ilr", "clnn", "one", "okddip", "kdcl_naive", "kdcl_linear", "kdcl_minlogit", "kdcl_general"]
NAMES = ["baseline", "ind", "kd", *COLLABORATING]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5}
# The options that preset="released" stands for; dml's temperature is 3 where none is given.
_PEERS = {"aggregate": "logits", "gradient": "all", "target_epsilon": 1e-7}
RELEASED: dict[str, dict[str, Any]] = {
    "dml": {"target": "mean", "temperature": 3.0, **_PEERS},
    "cl_ilr": _PEERS,
    "clnn": _PEERS,
    "one": {"gradient": "all", "target_epsilon": 1e-7},
    "okddip": {"leader_target": "logits", "include_self": True, "projection_init": "uniform", **_PEERS},
}
LARGEST: dict[tuple[str, str, str], float] = defaultdict(float)  # (method, dtype, "loss" or "gradient") -> deviation


@dataclass
class Case:
    """One batch of a random group; the tensors are leaves that collect gradients."""

    logits: Tensor  # [P, B, ..., C]
    labels: Tensor
    features: tuple[Tensor, ...]
    trunk: Tensor
    progress: Progress
    teachers: Tensor | None = None
    averaged: Tensor | None = None
    sample_weights: Tensor | None = None
    ignore_index: int | None = None

    @property
    def shape(self) -> GroupShape:
        return GroupShape(
            peers=self.logits.shape[0],
            num_classes=self.logits.shape[-1],
            feature_widths=tuple(h.shape[-1] for h in self.features),
            trunk_width=self.trunk.shape[-1],
            shares_trunk=True,
            teachers=0 if self.teachers is None else len(self.teachers),
        )

    @property
    def outputs(self) -> PeerOutputs:
        return PeerOutputs(self.logits, self.features, self.trunk, self.teachers, averaged_logits_PBC=self.averaged)

    def leaves(self) -> dict[str, Tensor]:
        named = {f"feature {p}": h for p, h in enumerate(self.features)}
        return {"logits": self.logits, **named, "trunk": self.trunk}


def make_case(
    m: int = 3,
    C: int = 5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    B: int = 4,
    widths: tuple[int, ...] | None = None,
    fraction: float = 0.1,
    positions: tuple[int, ...] = (),
    teachers: int = 0,
    scale: float = 2.0,
) -> Case:
    """Draw a case; `positions` are the axes of a dense prediction."""
    g = torch.Generator().manual_seed(1000 * seed + 100 * m + C)

    def leaf(*shape: int, s: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=g, dtype=torch.float64) * s).to(dtype).requires_grad_()

    return Case(
        logits=leaf(m, B, *positions, C, s=scale),
        labels=torch.randint(C, (B, *positions), generator=g),
        features=tuple(leaf(B, *positions, d) for d in widths or (16,) * m),
        trunk=leaf(B, 8),
        progress=Progress(epoch=300 * fraction, epochs=300),
        teachers=leaf(teachers, B, *positions, C, s=scale).detach() if teachers else None,
    )


def build(name: str, case: Case, seed: int = 7, **options: Any) -> methods.Method:
    """Build the library's method in the case's dtype, with parameters away from their initial values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*peer.*")  # m = 2: one peer attends to itself
        method = methods.build(name, case.shape, generator=torch.Generator().manual_seed(seed), **options)
    g = torch.Generator().manual_seed(seed + 1)
    method = method.to(case.logits.dtype)
    with torch.no_grad():
        for parameter in method.parameters():
            noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter.add_(0.3 * noise.to(parameter.dtype))
    return method


def call(method: methods.Method, case: Case) -> StepOutput:
    """The library's step, with the optional arguments only where the case has them."""
    extra: dict[str, Any] = {}
    if case.sample_weights is not None:
        extra["sample_weights"] = case.sample_weights
    if case.ignore_index is not None:
        extra["ignore_index"] = case.ignore_index
    return method(case.outputs, case.labels, case.progress, **extra)


@dataclass
class Rows:
    """The case as the reference sees it: lists of float64 vectors, one per row."""

    z: Vectors
    y: list[Label]
    r: list[float]
    h: Vectors
    teachers: Vectors
    trunk: list[Tensor]
    image_of: list[int]


def rows_of(case: Case, leaves: dict[str, Tensor]) -> Rows:
    """Cut tensors into rows; row n of an image with S positions is image n // S."""
    logits = leaves["logits"]
    m, B, C = logits.shape[0], logits.shape[1], logits.shape[-1]
    flat = logits.reshape(m, -1, C)
    N = flat.shape[1]
    soft = case.labels.is_floating_point()
    labels = case.labels.reshape(N, C).double() if soft else case.labels.reshape(N)
    weights = [1.0] * N
    if case.sample_weights is not None:
        given = case.sample_weights.double()
        if given.numel() == B:
            given = given.reshape(B, 1).expand(B, N // B)
        weights = [float(v) for v in given.reshape(N)]
    y: list[Label] = []
    for n in range(N):
        if soft:
            y.append(labels[n])
        elif case.ignore_index is not None and int(labels[n]) == case.ignore_index:
            y.append(0)
            weights[n] = 0.0
        else:
            y.append(int(labels[n]))
    features = [leaves[f"feature {p}"].reshape(N, -1) for p in range(len(case.features))]
    teachers = [] if case.teachers is None else list(case.teachers.double().reshape(len(case.teachers), N, C))
    return Rows(
        z=[[flat[i][n] for n in range(N)] for i in range(m)],
        y=y,
        r=weights,
        h=[[h[n] for n in range(N)] for h in features],
        teachers=[[t[n] for n in range(N)] for t in teachers],
        trunk=[leaves["trunk"][b] for b in range(B)],
        image_of=[n // (N // B) for n in range(N)],
    )


def run_reference(
    name: str, method: methods.Method, x: Rows, parameters: dict[str, Tensor], case: Case, given: dict
) -> Reference:
    """The reference's step with the options `given` and the library's parameter values."""
    o = dict(given)
    if o.pop("preset", None) == "released":
        o = {**RELEASED[name], **{k: v for k, v in o.items() if v is not None}}
    w = reference.ramp_up_weight(case.progress.epoch / case.progress.epochs, o.pop("ramp_up", 80 / 300))
    if name in reference_newer.NAMES:
        return reference_newer.run(name, x, parameters, case.averaged, w, o)
    if name in ("baseline", "ind"):
        return reference.independent(x.z, x.y, x.r)
    if name == "kd":
        T, weight, shares = o.get("temperature", 4.0), o.get("weight", 1.0), o.get("teacher_weights")
        return reference.kd(x.z, x.y, x.r, x.teachers, T, weight, shares)
    if name == "dml":
        T = o.pop("temperature", None) or 1.0
        return reference.dml(x.z, x.y, x.r, T, o.pop("target", "pairwise"), reference.Target(**o))
    if name in ("cl_ilr", "clnn"):
        T = o.pop("temperature", 3.0)
        return reference.collaborative(x.z, x.y, x.r, T, w, reference.Target(**o))
    if name == "one":
        gates = reference.gate_of_one(
            x.trunk,
            parameters["gate.linear.weight"],
            parameters["gate.norm.weight"],
            parameters["gate.norm.bias"],
            method.gate.norm.eps,
            None if method.training else torch.stack([method.gate.norm.running_mean, method.gate.norm.running_var]),
        )
        T = o.pop("temperature", 3.0)
        return reference.one(x.z, x.y, x.r, gates, x.image_of, T, w, reference.Target(**{"aggregate": "logits", **o}))
    if name == "okddip":
        o.pop("attention_width", None)
        o.pop("projection_init", None)
        options = reference_okddip.Options(entropy_weight=method.entropy_weight, **o)
        left, right = ([attention_weight(parameters, side, p) for p in range(len(x.z))] for side in ("left", "right"))
        return reference_okddip.okddip(x.z, x.y, x.r, x.h, left, right, w, options)
    rule = name.removeprefix("kdcl_")
    if rule == "general":
        weights = [float(v) for v in method.weights_P]
        targets = [reference_targets.mix(x.z, n, weights) for n in range(len(x.y))]
    elif rule == "linear":
        targets = certified_targets(x, bool(o.get("per_batch")), case.logits.dtype)
    else:
        targets = getattr(reference_targets, rule)(x.z, x.y)
    return reference.kdcl(x.z, x.y, x.r, targets, o.get("temperature", 2.0), o.get("weight", 1.0))


def certified_targets(x: Rows, per_batch: bool, dtype: torch.dtype) -> list[Tensor]:
    """The library's αᵀZ, after the reference has certified that α is a minimum.

    A minimum is flat: α that are equal for the objective differ in the target, so the reference's own α would hide
    an error of 1e-6 in the rest of the method.
    """
    kept = [n for n in range(len(x.y)) if x.r[n] > 0 or not per_batch]
    labels = [c for c in x.y if isinstance(c, int)]
    logits = torch.stack([torch.stack([zi[n].detach() for n in kept]) for zi in x.z])
    _, weights = targets_of_library.linear(
        logits.to(dtype), torch.tensor([labels[n] for n in kept]), per_batch=per_batch
    )
    found = []
    for n in range(len(x.y)):
        k = kept.index(n) if n in kept else 0
        alpha = [float(v) for v in (weights if weights.ndim == 1 else weights[:, k])]
        rows, y = ([n], [labels[n]]) if not per_batch else (kept, [labels[q] for q in kept])
        Z = [[[float(v) for v in zi[q].detach()] for zi in x.z] for q in rows]
        assert reference_targets.gap(Z, y, alpha) <= (1e-6 if dtype == torch.float64 else 1e-5), "not a minimum"
        found.append(reference_targets.mix(x.z, n, alpha))
    return found


def attention_weight(parameters: dict[str, Tensor], side: str, peer: int) -> Tensor | None:
    """W_Lᵀ or W_Eᵀ of a peer: its own where widths differ, else the shared one."""
    own = parameters.get(f"attention.{side}.{peer}.weight")
    return own if own is not None else parameters.get(f"attention.{side}.weight")


def gradients(scalar: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradient for every leaf, in float64; zeros where nothing flows."""
    found = torch.autograd.grad(scalar, list(leaves.values()), retain_graph=True, allow_unused=True)
    return {
        k: torch.zeros_like(v, dtype=torch.float64) if g is None else g.double()
        for (k, v), g in zip(leaves.items(), found, strict=True)
    }


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest entry where that is above 1."""
    difference = (ours.detach().double() - theirs.detach().double()).abs().max()
    return float(difference / theirs.detach().double().abs().max().clamp_min(1.0))


def compare(
    name: str, case: Case, method: methods.Method | None = None, tolerance: float | None = None, **options: Any
) -> None:
    """Hold loss, loss_by_peer, parts and all gradients of one step against the reference.

    Gradients are taken of the loss and of Σ_i c_i loss_by_peer[i] with unequal c, so that a term given to the wrong
    student does not pass.
    """
    build_options = {k: v for k, v in options.items() if k != "alpha"}
    method = method or build(name, case, **build_options)
    tolerance = tolerance or TOLERANCE[case.logits.dtype]
    ours = call(method, case)

    copies = {k: v.detach().double().requires_grad_() for k, v in case.leaves().items()}
    parameters = {k: v.detach().double().requires_grad_() for k, v in method.named_parameters()}
    theirs = run_reference(name, method, rows_of(case, copies), parameters, case, options)

    by_peer = torch.stack(theirs.loss_by_peer)
    assert ours.loss.ndim == 0
    assert ours.loss_by_peer.shape == by_peer.shape
    assert set(ours.parts) == set(theirs.parts)
    assert not any(v.requires_grad for v in ours.parts.values())
    values = {"loss": deviation(ours.loss, theirs.loss), "loss_by_peer": deviation(ours.loss_by_peer, by_peer)}
    for k, v in theirs.parts.items():
        values[f"part {k}"] = deviation(ours.parts[k], v)

    c = torch.tensor([1.0 + 0.7 * p * (-1) ** p for p in range(len(by_peer))], dtype=torch.float64)
    our_leaves = {**case.leaves(), **dict(method.named_parameters())}
    their_leaves = {**copies, **parameters}
    slopes = {}
    for what, mine, other in (
        ("loss", ours.loss, theirs.loss),
        ("loss_by_peer", (ours.loss_by_peer * c.to(ours.loss_by_peer)).sum(), (by_peer * c).sum()),
    ):
        g, g_reference = gradients(mine, our_leaves), gradients(other, their_leaves)
        slopes |= {f"d {what} / d {k}": deviation(g[k], g_reference[k]) for k in our_leaves}

    dtype = str(case.logits.dtype).removeprefix("torch.")
    for kind, found in (("loss", values), ("gradient", slopes)):
        LARGEST[name, dtype, kind] = max(LARGEST[name, dtype, kind], *found.values())
    wrong = {k: v for k, v in (values | slopes).items() if not v <= tolerance}
    assert not wrong, f"{name} {options}: deviations above {tolerance}: {wrong}"
