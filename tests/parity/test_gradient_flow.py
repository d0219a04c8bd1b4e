"""Which gradients are exactly zero, and which are not: one documented stop-gradient a method."""

from __future__ import annotations

import pytest
import torch
from harness import COLLABORATING, Case, build, call, make_case
from torch import Tensor

DETACHED = ["ind", "kd", *(n for n in COLLABORATING if n != "okddip")]


def case_for(name: str, m: int = 4) -> Case:
    return make_case(m=m, seed=30, fraction=0.5, teachers=2 if name == "kd" else 0)


def slope(value: Tensor, leaf: Tensor) -> Tensor:
    """The gradient; zeros where the graph does not hold the leaf."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (g,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if g is None else g


def flows(value: Tensor, leaf: Tensor) -> bool:
    """Whether the gradient is not exactly zero; where it is not, it is finite and more than rounding."""
    g = slope(value, leaf)
    assert g.isfinite().all()
    largest = float(g.abs().max())
    assert largest == 0 or largest > 1e-9, f"a gradient of {largest}: neither zero nor one to learn from"
    return largest > 0


def peers_reached(value: Tensor, logits: Tensor) -> list[int]:
    g = slope(value, logits)
    assert g.isfinite().all()
    return [p for p in range(len(g)) if g[p].abs().max() > 0]


@pytest.mark.parametrize(("name", "options"), [*((n, {}) for n in DETACHED), ("dml", {"target": "mean"})], ids=str)
def test_a_students_loss_reaches_no_other_student(name: str, options: dict) -> None:
    case = case_for(name)
    result = call(build(name, case, **options), case)
    for i in range(4):
        assert peers_reached(result.loss_by_peer[i], case.logits) == [i]


@pytest.mark.parametrize("name", [n for n in DETACHED if n not in ("ind", "one")])
def test_features_and_trunk_get_no_gradient_where_the_equations_do_not_read_them(name: str) -> None:
    case = case_for(name)
    loss = call(build(name, case), case).loss
    assert not any(flows(loss, h) for h in (*case.features, case.trunk))


@pytest.mark.parametrize("name", [n for n in DETACHED if n not in ("ind", "kdcl_naive")])
def test_the_soft_term_reaches_its_own_student(name: str) -> None:
    case = case_for(name)
    soft = call(build(name, case), case).loss_by_peer
    alone = call(build("ind", case), case).loss_by_peer
    for i in range(4):
        assert (slope(soft[i], case.logits) - slope(alone[i], case.logits))[i].abs().max() > 1e-6


def test_kdcl_naive_gives_the_best_student_of_a_row_no_soft_gradient() -> None:
    case = case_for("kdcl_naive")
    soft, alone = (call(build(n, case), case).loss_by_peer for n in ("kdcl_naive", "ind"))
    ce = torch.stack([torch.nn.functional.cross_entropy(z, case.labels, reduction="none") for z in case.logits])
    for n, k in enumerate(ce.argmin(0).tolist()):
        for i in range(4):
            extra = (slope(soft[i], case.logits) - slope(alone[i], case.logits))[i, n].abs().max()
            assert (extra < 1e-15) if i == k else (extra > 1e-9)


def test_kd_gives_its_teachers_no_gradient() -> None:
    case = case_for("kd")
    assert case.teachers is not None
    case.teachers.requires_grad_()
    assert not flows(call(build("kd", case), case).loss, case.teachers)


def test_one_trains_the_gate_and_the_trunk_through_the_ensembles_cross_entropy_only() -> None:
    case = case_for("one")
    method = build("one", case)
    result = call(method, case)
    for i in range(4):
        assert not flows(result.loss_by_peer[i], case.trunk)
        assert not any(flows(result.loss_by_peer[i], p) for p in method.parameters())
    ensemble = result.loss - result.loss_by_peer.sum()
    assert flows(ensemble, case.trunk)
    assert all(flows(ensemble, p) for p in method.parameters())
    assert len(list(method.parameters())) == 3
    assert peers_reached(ensemble, case.logits) == [0, 1, 2, 3]
    assert not any(flows(result.loss, h) for h in case.features)


# OKDDip: four students, the last one the leader.


def run_okddip(**options) -> tuple[Case, list[Tensor], list[Tensor]]:
    """The case, every student's loss, and [W_Lᵀ, W_Eᵀ] (empty where the ablation has none)."""
    case = case_for("okddip")
    method = build("okddip", case, **options)
    return case, list(call(method, case).loss_by_peer), list(method.parameters())


def test_okddip_attention_gradient_reaches_projections_and_features_but_no_prediction_inside_a_target() -> None:
    case, loss, projections = run_okddip()
    assert len(projections) == 2
    for a in range(3):
        assert peers_reached(loss[a], case.logits) == [a]
        assert all(flows(loss[a], w) for w in projections)
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
    assert peers_reached(loss[3], case.logits) == [3]
    assert not any(flows(loss[3], t) for t in (*projections, *case.features, case.trunk))


def test_okddip_attention_gradient_leaves_the_direct_path_only() -> None:
    # d L_a / d z_a = CE + w T (q'_a - t_a) / B: nothing more comes in through q'_a inside t_a.
    case, loss, _ = run_okddip(ablation="mean")
    z = case.logits.detach()
    q = torch.softmax(z / 3, -1)
    y = torch.nn.functional.one_hot(case.labels, 5)
    expected = (torch.softmax(z[0], -1) - y + 3 * (q[0] - q[:3].mean(0))) / 4  # w = 1, T = 3, B = 4
    assert torch.allclose(slope(loss[0], case.logits)[0], expected, atol=1e-6)


@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
def test_okddip_gradient_none_stops_the_attention_too(aggregate: str) -> None:
    case, loss, projections = run_okddip(gradient="none", aggregate=aggregate, leader_target=aggregate)
    for a in range(4):
        assert peers_reached(loss[a], case.logits) == [a]
        assert not any(flows(loss[a], t) for t in (*projections, *case.features))


@pytest.mark.parametrize("options", [{"gradient": "all"}, {"preset": "released"}], ids=str)
def test_okddip_gradient_all_reaches_everything(options: dict) -> None:
    case, loss, projections = run_okddip(**options)
    for a in range(3):
        assert peers_reached(loss[a], case.logits) == [0, 1, 2]
        assert all(flows(loss[a], w) for w in projections)
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
    assert peers_reached(loss[3], case.logits) == [0, 1, 2, 3]
    assert not any(flows(loss[3], t) for t in (*projections, *case.features))


def test_okddip_without_self_takes_the_only_other_peer_as_target() -> None:
    # Two peers: α_01 = α_10 = 1 whatever the attention says, so t_0 = q'_1, and nothing is left to learn for W and h.
    case = make_case(m=3, seed=33, fraction=0.5)
    method = build("okddip", case, include_self=False)
    result = call(method, case)
    q = torch.softmax(case.logits.detach() / 3, -1)
    expected = sum((q[b] * (q[b] / q[a]).log()).sum(-1).mean() for a, b in ((0, 1), (1, 0)))
    assert result.parts["dis1"].item() == pytest.approx(expected.item(), rel=1e-12)
    assert not any(flows(result.loss, t) for t in (*method.parameters(), *case.features))


@pytest.mark.parametrize("ablation", ["random", "mean", "entropy"])
def test_okddip_ablations_that_read_no_features_send_them_no_gradient(ablation: str) -> None:
    case, loss, projections = run_okddip(ablation=ablation)
    assert projections == []
    for a in range(4):
        assert peers_reached(loss[a], case.logits) == [a]
        assert not any(flows(loss[a], h) for h in case.features)


def test_okddip_asymmetry_ablation_sends_gradient_to_features() -> None:
    case, loss, projections = run_okddip(ablation="asymmetry")
    assert projections == []
    for a in range(3):
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
        assert peers_reached(loss[a], case.logits) == [a]


def test_okddip_without_two_levels_makes_every_student_a_peer() -> None:
    case, loss, projections = run_okddip(ablation="no_two_level")
    for a in range(4):
        assert [flows(loss[a], h) for h in case.features] == [True] * 4
        assert all(flows(loss[a], w) for w in projections)
        assert peers_reached(loss[a], case.logits) == [a]


def test_okddip_own_projections_get_gradient_only_from_losses_that_use_them() -> None:
    case = make_case(m=4, widths=(8, 16, 24, 32), seed=31, fraction=0.5)
    method = build("okddip", case)
    loss = call(method, case).loss_by_peer
    for a in range(3):
        for b in range(3):
            assert flows(loss[a], method.attention.left[b].weight) == (a == b)  # L is taken of the peer that learns
            assert flows(loss[a], method.attention.right[b].weight)  # E of all peers that it looks at
    assert len(method.attention.left) == len(method.attention.right) == 3


def test_okddip_single_peer_has_no_attention_to_learn() -> None:
    case = make_case(m=2, seed=32, fraction=0.5)
    method = build("okddip", case)
    result = call(method, case)
    assert float(result.parts["dis1"]) == pytest.approx(0, abs=1e-15)
    assert float(result.parts["dis2"]) > 0
    assert all(float(slope(result.loss, p).abs().max()) < 1e-15 for p in method.parameters())
