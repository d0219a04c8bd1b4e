"""Which gradients are exactly zero, and which are not: one documented stop-gradient a method."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from harness import COLLABORATING, Case, build, call, make_case, rows_of
from reference import gate_of_one
from torch import Tensor

DETACHED = ["ind", "kd", *(n for n in COLLABORATING if n != "okddip")]
LOGITS = {"aggregate": "logits", "target_epsilon": 0.01}
STOPPED = [
    *((n, {}) for n in DETACHED),
    ("dml", {"target": "mean"}),
    ("dml", {"target": "mean", **LOGITS}),
    ("dml", {"gradient": "none", "target_epsilon": 0.01}),
    ("cl_ilr", {"gradient": "none", **LOGITS}),
    ("clnn", LOGITS),
    ("one", {"gradient": "none", "target_epsilon": 0.01}),
    ("one", {"aggregate": "probabilities"}),
]
THROUGH = [  # nothing detached; `one`, whose targets hold the gate too, has tests of its own
    ("dml", {"gradient": "all"}),
    ("dml", {"gradient": "all", "target": "mean"}),
    ("dml", {"preset": "released"}),
    *((n, o) for n in ("cl_ilr", "clnn") for o in ({"gradient": "all"}, {"preset": "released"})),
]


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


@pytest.mark.parametrize(("name", "options"), STOPPED, ids=str)
def test_a_students_loss_reaches_no_other_student(name: str, options: dict) -> None:
    case = case_for(name)
    result = call(build(name, case, **options), case)
    for i in range(4):
        assert peers_reached(result.loss_by_peer[i], case.logits) == [i]


@pytest.mark.parametrize(("name", "options"), THROUGH, ids=str)
def test_with_nothing_detached_a_students_loss_reaches_all_students(name: str, options: dict) -> None:
    case = case_for(name)
    result = call(build(name, case, **options), case)
    alone = call(build("ind", case), case)
    for i in range(4):
        assert peers_reached(result.loss_by_peer[i], case.logits) == [0, 1, 2, 3]
        assert peers_reached(alone.loss_by_peer[i], case.logits) == [i]
        for j in {0, 1, 2, 3} - {i}:
            assert slope(result.loss_by_peer[i], case.logits)[j].abs().max() > 1e-6


# What a student's soft term sends into a prediction inside its target, by the chain rule instead of autograd: with
# k_c = dKL/dt_c = log(t_c + ε) - log q_c + 1, a softmax p passes p (k - Σ_c p_c k_c) on.


def through_softmax(prob: Tensor, k: Tensor) -> Tensor:
    return prob * (k - (prob * k).sum(-1, keepdim=True))


def target_slope(t: Tensor, log_q: Tensor, epsilon: float) -> Tensor:
    return (t + epsilon).log() - log_q + 1


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
@pytest.mark.parametrize(
    ("name", "form"),
    [("dml", "pairwise"), *((n, f) for n in ("dml", "cl_ilr", "clnn") for f in ("probabilities", "logits"))],
)
def test_what_flows_through_a_target_is_the_chain_rule(name: str, form: str, epsilon: float) -> None:
    case, T, B = case_for(name), 3.0, 4
    options = {"gradient": "all", "target_epsilon": epsilon, "temperature": T}
    if form != "pairwise":
        options |= {"aggregate": form, **({"target": "mean"} if name == "dml" else {})}
    loss = call(build(name, case, **options), case).loss_by_peer
    z = case.logits.detach()
    q = torch.softmax(z / T, -1)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        t = torch.softmax(z[others].mean(0) / T, -1) if form == "logits" else q[others].mean(0)
        log_q = torch.log_softmax(z[i] / T, -1)
        for j in others:
            if form == "logits":
                inner = through_softmax(t, target_slope(t, log_q, epsilon))
            else:
                inner = through_softmax(q[j], target_slope(q[j] if form == "pairwise" else t, log_q, epsilon))
            expected = T * inner / (3 * B)  # w T² · 1/T · 1/(m - 1) · the batch mean, w = 1
            assert torch.allclose(slope(loss[i], case.logits)[j], expected, rtol=0, atol=1e-12)
            assert expected.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "options"), [("dml", {"target": "mean"}), ("cl_ilr", {}), ("clnn", {"aggregate": "logits"})], ids=str
)
def test_a_target_is_not_divided_by_its_sum_after_epsilon_is_added(name: str, options: dict) -> None:
    # dKL(t, softmax(z/T))/dz = (Σ_c t_c q - t)/T, and Σ_c t_c = 1 + C ε.
    case, T, epsilon = case_for(name), 3.0, 0.05
    loss = call(build(name, case, temperature=T, target_epsilon=epsilon, **options), case).loss_by_peer
    z = case.logits.detach()
    y = F.one_hot(case.labels, 5)
    q = torch.softmax(z / T, -1)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        logits = options.get("aggregate") == "logits"
        t = (torch.softmax(z[others].mean(0) / T, -1) if logits else q[others].mean(0)) + epsilon
        expected = (torch.softmax(z[i], -1) - y + T * ((1 + 5 * epsilon) * q[i] - t)) / 4
        assert torch.allclose(slope(loss[i], case.logits)[i], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"), [*((n, {}) for n in DETACHED if n not in ("ind", "one")), *THROUGH], ids=str
)
def test_features_and_trunk_get_no_gradient_where_the_equations_do_not_read_them(name: str, options: dict) -> None:
    case = case_for(name)
    loss = call(build(name, case, **options), case).loss
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


@pytest.mark.parametrize(
    "options", [{}, {"aggregate": "probabilities"}, {"gradient": "none", "target_epsilon": 0.01}], ids=str
)
def test_one_trains_the_gate_and_the_trunk_through_the_ensembles_cross_entropy_only(options: dict) -> None:
    case = case_for("one")
    method = build("one", case, **options)
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


@pytest.mark.parametrize(
    "options", [{"gradient": "all"}, {"gradient": "all", "aggregate": "probabilities"}, {"preset": "released"}], ids=str
)
def test_one_with_nothing_detached_trains_gate_trunk_and_branches_through_its_target(options: dict) -> None:
    case = case_for("one")
    method = build("one", case, **options)
    result = call(method, case)
    for i in range(4):
        assert peers_reached(result.loss_by_peer[i], case.logits) == [0, 1, 2, 3]
        assert flows(result.loss_by_peer[i], case.trunk)
        assert all(flows(result.loss_by_peer[i], p) for p in method.parameters())
    ensemble = result.loss - result.loss_by_peer.sum()
    assert flows(ensemble, case.trunk)
    assert all(flows(ensemble, p) for p in method.parameters())
    assert not any(flows(result.loss, h) for h in case.features)


@pytest.mark.parametrize("epsilon", [0.0, 0.01])
@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
def test_what_flows_through_ones_target_into_the_other_branches_is_the_chain_rule(
    aggregate: str, epsilon: float
) -> None:
    case, T, B = case_for("one"), 3.0, 4
    method = build("one", case, gradient="all", aggregate=aggregate, target_epsilon=epsilon)
    loss = call(method, case).loss_by_peer
    x = rows_of(case, {k: v.detach() for k, v in case.leaves().items()})
    gate = [method.gate.linear.weight, method.gate.norm.weight, method.gate.norm.bias, method.gate.norm.eps]
    g = torch.stack(gate_of_one(x.trunk, *gate)).detach().T[..., None]  # [P, B, 1]
    z = case.logits.detach()
    q = torch.softmax(z / T, -1)
    t = torch.softmax((g * z).sum(0) / T, -1) if aggregate == "logits" else (g * q).sum(0)
    for i in range(4):
        k = target_slope(t, torch.log_softmax(z[i] / T, -1), epsilon)
        for j in {0, 1, 2, 3} - {i}:
            inner = through_softmax(t if aggregate == "logits" else q[j], k)
            expected = T * g[j] * inner / B
            assert torch.allclose(slope(loss[i], case.logits)[j], expected, rtol=0, atol=1e-12)
            assert expected.abs().max() > 1e-4


# OKDDip: four students, the last one the leader.


def run_okddip(**options) -> tuple[Case, list[Tensor], list[Tensor]]:
    """The case, every student's loss, and [W_Lᵀ, W_Eᵀ] (empty where the ablation has none)."""
    case = case_for("okddip")
    method = build("okddip", case, **options)
    return case, list(call(method, case).loss_by_peer), list(method.parameters())


@pytest.mark.parametrize("options", [{}, {"include_self": True}, {"aggregate": "logits"}], ids=str)
def test_okddip_attention_gradient_reaches_projections_and_features_but_no_prediction_inside_a_target(
    options: dict,
) -> None:
    case, loss, projections = run_okddip(**options)
    assert len(projections) == 2
    for a in range(3):
        assert peers_reached(loss[a], case.logits) == [a]
        assert all(flows(loss[a], w) for w in projections)
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
    assert peers_reached(loss[3], case.logits) == [3]
    assert not any(flows(loss[3], t) for t in (*projections, *case.features, case.trunk))


@pytest.mark.parametrize(
    ("options", "listened_to"), [({}, [1, 2]), ({"include_self": False}, [1, 2]), ({"include_self": True}, [0, 1, 2])]
)
def test_okddip_attention_gradient_leaves_the_direct_path_only(options: dict, listened_to: list[int]) -> None:
    # d L_a / d z_a = CE + w T (q'_a - t_a) / B: nothing more comes in through q'_a inside t_a.
    case, loss, _ = run_okddip(ablation="mean", **options)
    z = case.logits.detach()
    q = torch.softmax(z / 3, -1)
    y = F.one_hot(case.labels, 5)
    expected = (torch.softmax(z[0], -1) - y + 3 * (q[0] - q[listened_to].mean(0))) / 4  # w = 1, T = 3, B = 4
    assert torch.allclose(slope(loss[0], case.logits)[0], expected, atol=1e-6)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("aggregate", ["probabilities", "logits"])
def test_okddip_gradient_none_stops_the_attention_too(aggregate: str, include_self: bool) -> None:
    options = {"aggregate": aggregate, "leader_target": aggregate, "include_self": include_self}
    case, loss, projections = run_okddip(gradient="none", **options)
    for a in range(4):
        assert peers_reached(loss[a], case.logits) == [a]
        assert not any(flows(loss[a], t) for t in (*projections, *case.features))


@pytest.mark.parametrize(
    "options", [{"gradient": "all"}, {"gradient": "all", "include_self": True}, {"preset": "released"}], ids=str
)
def test_okddip_gradient_all_reaches_everything(options: dict) -> None:
    case, loss, projections = run_okddip(**options)
    for a in range(3):
        assert peers_reached(loss[a], case.logits) == [0, 1, 2]
        assert all(flows(loss[a], w) for w in projections)
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
    assert peers_reached(loss[3], case.logits) == [0, 1, 2, 3]
    assert not any(flows(loss[3], t) for t in (*projections, *case.features))


@pytest.mark.parametrize("options", [{}, {"include_self": False}], ids=str)
def test_okddip_takes_the_only_other_peer_as_target(options: dict) -> None:
    # Two peers: α_01 = α_10 = 1 whatever the attention says, so t_0 = q'_1, and nothing is left to learn for W and h.
    case = make_case(m=3, seed=33, fraction=0.5)
    method = build("okddip", case, **options)
    result = call(method, case)
    q = torch.softmax(case.logits.detach() / 3, -1)
    expected = sum((q[b] * (q[b] / q[a]).log()).sum(-1).mean() for a, b in ((0, 1), (1, 0)))
    assert result.parts["dis1"].item() == pytest.approx(expected.item(), rel=1e-12)
    assert not any(flows(result.loss, t) for t in (*method.parameters(), *case.features))


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("ablation", ["random", "mean", "entropy"])
def test_okddip_ablations_that_read_no_features_send_them_no_gradient(ablation: str, include_self: bool) -> None:
    case, loss, projections = run_okddip(ablation=ablation, include_self=include_self)
    assert projections == []
    for a in range(4):
        assert peers_reached(loss[a], case.logits) == [a]
        assert not any(flows(loss[a], h) for h in case.features)


@pytest.mark.parametrize("include_self", [True, False])
def test_okddip_asymmetry_ablation_sends_gradient_to_features(include_self: bool) -> None:
    case, loss, projections = run_okddip(ablation="asymmetry", include_self=include_self)
    assert projections == []
    for a in range(3):
        assert [flows(loss[a], h) for h in case.features] == [True, True, True, False]
        assert peers_reached(loss[a], case.logits) == [a]


@pytest.mark.parametrize("include_self", [True, False])
def test_okddip_without_two_levels_makes_every_student_a_peer(include_self: bool) -> None:
    case, loss, projections = run_okddip(ablation="no_two_level", include_self=include_self)
    for a in range(4):
        assert [flows(loss[a], h) for h in case.features] == [True] * 4
        assert all(flows(loss[a], w) for w in projections)
        assert peers_reached(loss[a], case.logits) == [a]


@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"include_self": True}], ids=str)
def test_okddip_own_projections_get_gradient_only_from_losses_that_use_them(options: dict) -> None:
    case = make_case(m=4, widths=(8, 16, 24, 32), seed=31, fraction=0.5)
    method = build("okddip", case, **options)
    looks_at_itself = bool(options.get("include_self"))
    loss = call(method, case).loss_by_peer
    for a in range(3):
        for b in range(3):
            assert flows(loss[a], method.attention.left[b].weight) == (a == b)  # L is taken of the peer that learns
            # E of all peers that it looks at
            assert flows(loss[a], method.attention.right[b].weight) == (a != b or looks_at_itself)
    assert len(method.attention.left) == len(method.attention.right) == 3


@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"include_self": True}], ids=str)
def test_okddip_single_peer_has_no_attention_to_learn(options: dict) -> None:
    case = make_case(m=2, seed=32, fraction=0.5)
    method = build("okddip", case, **options)
    result = call(method, case)
    assert float(result.parts["dis1"]) == pytest.approx(0, abs=1e-15)
    assert float(result.parts["dis2"]) > 0
    assert all(float(slope(result.loss, p).abs().max()) < 1e-15 for p in method.parameters())
