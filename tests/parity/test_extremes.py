"""Logits of ±1e4, half precision, equal students: finite losses and gradients, and the values that they must have."""

from __future__ import annotations

import pytest
import torch
from harness import COLLABORATING, NAMES, RELEASED, Case, build, call, compare, make_case
from torch import Tensor

from codistill import targets
from codistill.types import StepOutput

OKDDIP_OPTIONS = [
    {"preset": "released"},
    {"include_self": True},
    {"gradient": "all"},
    {"aggregate": "logits", "leader_target": "logits"},
    {"ablation": "random"},
    {"ablation": "mean"},
    {"ablation": "entropy"},
    {"ablation": "asymmetry"},
    {"ablation": "no_two_level"},
]
OTHER_OPTIONS = [
    *((name, {"preset": "released"}) for name in RELEASED if name != "okddip"),
    ("dml", {"target": "mean"}),
    ("dml", {"gradient": "all"}),
    ("clnn", {"gradient": "all"}),
    ("one", {"gradient": "all"}),
    ("one", {"gradient": "all", "aggregate": "probabilities"}),
]
EVERYTHING = [(n, {}) for n in NAMES] + [("okddip", o) for o in OKDDIP_OPTIONS] + OTHER_OPTIONS
HALVES = [torch.float16, torch.bfloat16]


def case_for(name: str, **arguments) -> Case:
    # okddip: three peers and the leader, since two peers that attend to the other only have no choice.
    m = {"baseline": 1, "okddip": 4}.get(name, 3)
    return make_case(m=m, seed=40, fraction=1.0, teachers=1 if name == "kd" else 0, **arguments)


def with_logits(case: Case, logits: Tensor) -> Case:
    case.logits = logits.to(case.logits.dtype).detach().requires_grad_()
    return case


def assert_finite(result: StepOutput, case: Case, parameters: list[Tensor]) -> None:
    assert result.loss.isfinite()
    assert result.loss_by_peer.isfinite().all()
    assert all(v.isfinite() for v in result.parts.values())
    leaves = [*case.leaves().values(), *parameters]
    for g in torch.autograd.grad(result.loss, leaves, allow_unused=True):
        assert g is None or g.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES], ids=str)
@pytest.mark.parametrize("pattern", ["random signs", "certain and right", "certain and wrong", "equal"])
@pytest.mark.parametrize(("name", "options"), EVERYTHING, ids=str)
def test_logits_of_ten_thousand_give_finite_losses_and_gradients(
    name: str, options: dict, pattern: str, dtype: torch.dtype
) -> None:
    case = case_for(name, dtype=dtype)
    m, B, C = case.logits.shape
    one_hot = torch.nn.functional.one_hot(case.labels, C).float()
    signs = torch.sign(case.logits.detach().float())
    certain = 2 * one_hot - 1
    picked = {
        "random signs": signs,
        "certain and right": certain.expand(m, B, C),
        "certain and wrong": -certain.expand(m, B, C),
        "equal": signs[:1].expand(m, B, C),
    }[pattern]
    case = with_logits(case, 1e4 * picked)
    method = build(name, case, **options)
    method = method.float() if dtype in HALVES else method
    assert_finite(call(method, case), case, list(method.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_certain_and_wrong_costs_the_margin(name: str) -> None:
    # Equal students, z_y = -1e4, the others +1e4 (4 of them): CE = 2e4 + log 4 each; equal students: no soft loss.
    case = case_for(name)
    m, B, C = case.logits.shape
    one_hot = torch.nn.functional.one_hot(case.labels, C).double()
    case = with_logits(case, (1e4 * (1 - 2 * one_hot)).expand(m, B, C))
    case.teachers = case.logits[:1].detach() if name == "kd" else None
    result = call(build(name, case), case)
    ce = 2e4 + torch.log(torch.tensor(4.0)).item()
    assert result.loss_by_peer.tolist() == pytest.approx([ce] * m, rel=1e-7)
    for part in set(result.parts) - {"ce", "ce_ensemble"}:
        assert result.parts[part].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", COLLABORATING)
def test_equal_students_have_nothing_to_tell_each_other(name: str) -> None:
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 2e-6)):
        case = case_for(name, dtype=dtype)
        case = with_logits(case, case.logits[:1].expand_as(case.logits))
        result = call(build(name, case), case)
        alone = call(build("ind", case), case)
        if name == "kdcl_minlogit":  # the label's logit is set to 0, which softmax does not see
            tolerance *= 10
        assert torch.allclose(result.loss_by_peer, alone.loss_by_peer, rtol=0, atol=10 * tolerance)
        for part in set(result.parts) - {"ce", "ce_ensemble"}:
            assert abs(result.parts[part].item()) <= tolerance


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("name", "options"), [e for e in EVERYTHING if e[1] != {"ablation": "random"}], ids=str)
def test_half_precision_is_computed_in_fp32(name: str, options: dict, dtype: torch.dtype) -> None:
    # The same (rounded) logits in float64 are the yardstick: values to fp32 accuracy, gradients to that of the dtype.
    case = case_for(name, dtype=dtype)
    method = build(name, case, **options).float()
    result = call(method, case)
    assert result.loss.dtype == torch.float32
    wide = case_for(name)
    for leaf, narrow in zip(wide.leaves().values(), case.leaves().values(), strict=True):
        leaf.data.copy_(narrow.data)
    wide.teachers = None if case.teachers is None else case.teachers.double()
    reference = build(name, wide, **options)
    reference.load_state_dict(method.state_dict())
    expected = call(reference, wide)
    assert result.loss_by_peer.tolist() == pytest.approx(expected.loss_by_peer.tolist(), rel=1e-4)
    (g,) = torch.autograd.grad(result.loss, case.logits)
    (g_wide,) = torch.autograd.grad(expected.loss, wide.logits)
    assert g.dtype == dtype
    assert torch.allclose(g.double(), g_wide, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"include_self": True}, {"ablation": "asymmetry"}, {"gradient": "all"}], ids=str
)
def test_okddip_large_features_in_half_precision_stay_finite(options: dict, dtype: torch.dtype) -> None:
    case = case_for("okddip", dtype=dtype)
    case.features = tuple((h.detach() * 1000).requires_grad_() for h in case.features)
    method = build("okddip", case, **options).float()
    assert_finite(call(method, case), case, list(method.parameters()))


@pytest.mark.parametrize("scale", [1e-6, 40.0, 300.0])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((n, {}) for n in NAMES if n not in ("baseline", "kdcl_linear")),
        *((n, {"preset": "released"}) for n in RELEASED),
        ("okddip", {"include_self": True}),
        ("one", {"aggregate": "probabilities", "gradient": "all"}),
    ],
    ids=str,
)
def test_small_and_large_logits_agree_with_the_reference(name: str, options: dict, scale: float) -> None:
    compare(name, case_for(name, scale=scale), tolerance=1e-9, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rule", ["naive", "minlogit", "linear"])
def test_targets_of_extreme_logits_are_finite(rule: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    logits = 1e4 * torch.sign(torch.randn(4, 16, 6, generator=g)).to(dtype)
    labels = torch.randint(6, (16,), generator=g)
    found = getattr(targets, rule)(logits, labels)
    target_BC, weights_PB = found if rule == "linear" else (found, None)
    assert target_BC.isfinite().all()
    if weights_PB is not None:
        assert weights_PB.double().sum(0).tolist() == pytest.approx([1] * 16, abs=1e-6)


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_general_weights_of_certain_students_are_finite(prob: float) -> None:
    f = torch.tensor([[prob, 1 - prob]] * 4, dtype=torch.float64).expand(3, 4, 2)
    weights = targets.general_weights(f, torch.zeros(4, dtype=torch.int64))
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-9)
