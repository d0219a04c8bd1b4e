"""PCL and SwitOKD: values worked out by hand, where gradient flows and where not, and what is refused."""

from __future__ import annotations

import math
from math import log

import pytest
import torch
from by_hand import END, L3, S, U, V, check, f64, kl, scaled
from harness import build, call
from test_gradient_flow import flows, peers_reached, slope
from test_parity_newer import is_paused, pair_case, pcl_case
from torch import Tensor

from codistill import methods
from codistill.types import GroupShape, PeerOutputs, Progress, StepOutput
from refusals import refusal

PAIR = GroupShape(2, 3, (8, 8))
# Probabilities with label 0, C = 3: d_t = 2 (1 - 1/2) = 1, d_s = 2 (1 - 3/8) = 5/4.
AHEAD, BEHIND = [1 / 2, 3 / 8, 1 / 8], [3 / 8, 1 / 8, 1 / 2]


def pcl(logits: Tensor, averaged: Tensor, progress: Progress = END) -> StepOutput:
    """Every student's feature is 1; W_e makes 3 log 3 of their sum for class 0, and 0 for class 1: q_e = v."""
    m = len(logits)
    method = methods.build("pcl", GroupShape(m, 2, (1,) * m)).double()
    with torch.no_grad():
        method.classifier.weight.copy_(f64([[3 * L3 / m] * m, [0.0] * m]))
    features = tuple(torch.ones(1, 1, dtype=torch.float64) for _ in range(m))
    outputs = PeerOutputs(logits, features, averaged_logits_PBC=averaged)
    return method(outputs, torch.tensor([0]), progress)


def switokd(first: list[float], second: list[float], teacher: int = 0) -> StepOutput:
    logits = f64([[first], [second]]).log()
    return methods.build("switokd", PAIR, teacher=teacher)(PeerOutputs(logits), torch.tensor([0]), Progress(0, 1))


@pytest.mark.parametrize(("epoch", "w"), [(0.0, math.exp(-5)), (40.0, math.exp(-5 / 4)), (80.0, 1.0)])
def test_pcl_of_two_students(epoch: float, w: float) -> None:
    # T = 3, students 3u and 3v, their averages 3s and 3u; label 0, and softmax(3v) = (27/28, 1/28).
    # Student 1: KL(v, u) + KL(u, u). Student 2: KL(v, v) + KL(s, v), where KL(s, v) = log(3)/2. CE(z_e) = log 28/27.
    vu = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    result = pcl(scaled(3, U, V), scaled(3, S, U), Progress(epoch, 300))
    parts = {"ce": log(56 / 27), "ce_ensemble": log(28 / 27), "kd_ensemble": vu, "kd_average": log(3) / 2}
    check(result, [log(2) + 9 * w * vu, log(28 / 27) + 9 * w * log(3) / 2], parts, beside=log(28 / 27))


def test_pcl_divides_by_the_number_of_the_others() -> None:
    # Three students 3u; averages 3v, 3s, 3u. Others of 1: s, u -> KL(s,u)/2; of 2: v, u -> KL(v,u)/2; of 3: both.
    vu = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    average = [vu / 2, vu / 2, vu]
    result = pcl(scaled(3, U, U, U), scaled(3, V, S, U))
    parts = {"ce": 3 * log(2), "ce_ensemble": log(28 / 27), "kd_ensemble": 3 * vu, "kd_average": 2 * vu}
    check(result, [log(2) + 9 * (vu + k) for k in average], parts, beside=log(28 / 27))


def test_switokd_pauses_the_larger_network_where_it_is_too_far_ahead() -> None:
    # G = 1/8 + 1/4 + 3/8 = 3/4; ε = exp(-1 / (9/4)) = exp(-4/9) = 0.64; δ = 5/4 - 0.64 = 0.61 < G, and d_t < d_s.
    result = switokd(AHEAD, BEHIND)
    own, other = kl(AHEAD, BEHIND), kl(BEHIND, AHEAD)
    check(result, [0.0, log(8 / 3) + own], {"ce": log(2) + log(8 / 3), "kd": own + other})
    assert result.diagnostics["paused"].item() == 1
    assert result.update_P.tolist() == [False, True]


def test_switokd_teaches_both_ways_where_the_larger_network_is_behind() -> None:
    result = switokd(AHEAD, BEHIND, teacher=1)
    soft = [kl(BEHIND, AHEAD), kl(AHEAD, BEHIND)]
    check(result, [log(2) + soft[0], log(8 / 3) + soft[1]], {"ce": log(2) + log(8 / 3), "kd": sum(soft)})
    assert result.diagnostics["paused"].item() == 0
    assert result.update_P.tolist() == [True, True]


def test_switokd_teaches_both_ways_where_the_gap_is_small() -> None:
    # d_t = 1, d_s = 5/4, δ = 0.61 as before, but G = 1/8 + 1/16 + 1/16 = 1/4.
    near = [3 / 8, 3 / 8 + 1 / 16, 1 / 8 + 1 / 16]
    result = switokd(AHEAD, near)
    assert result.update_P.tolist() == [True, True]
    assert result.loss_by_peer[0].item() == pytest.approx(log(2) + kl(near, AHEAD), rel=1e-12)


def test_switokd_teaches_both_ways_where_both_networks_are_perfect() -> None:
    logits = f64([[[1000.0, 0.0, 0.0]], [[1000.0, 0.0, 0.0]]])
    result = methods.build("switokd", PAIR)(PeerOutputs(logits), torch.tensor([0]), Progress(0, 1))
    assert result.loss.item() == 0
    assert result.update_P.tolist() == [True, True]


def test_pcls_students_learn_from_targets_that_they_do_not_move() -> None:
    case = pcl_case(seed=20, fraction=0.5)
    method = build("pcl", case)
    loss = call(method, case).loss_by_peer
    for i in range(3):
        assert peers_reached(loss[i], case.logits) == [i]
        assert not any(flows(loss[i], t) for t in (*method.parameters(), *case.features, case.averaged))


def test_pcls_ensemble_trains_its_classifier_and_every_students_features_by_its_cross_entropy_only() -> None:
    case = pcl_case(seed=21, fraction=0.5)
    method = build("pcl", case)
    result = call(method, case)
    ensemble = result.loss - result.loss_by_peer.sum()
    assert all(flows(ensemble, t) for t in (*method.parameters(), *case.features))
    assert slope(ensemble, case.logits).abs().max() < 1e-15
    assert not flows(ensemble, case.averaged)
    # d CE(z_e) / d W_e = (softmax(z_e) - y) hᵀ / B.
    h = torch.cat(case.features, dim=-1).detach()
    error = (h @ method.classifier.weight.T).softmax(-1) - torch.nn.functional.one_hot(case.labels, 5)
    torch.testing.assert_close(slope(ensemble, method.classifier.weight), error.T @ h / 4)


@pytest.mark.parametrize("seed", [5, 6])
def test_switokds_networks_learn_from_targets_that_they_do_not_move(seed: int) -> None:
    case = pair_case(seed)
    stops = is_paused(case)
    assert stops == (seed == 6)
    result = call(build("switokd", case), case)
    assert peers_reached(result.loss_by_peer[0], case.logits) == ([] if stops else [0])
    assert peers_reached(result.loss_by_peer[1], case.logits) == [1]
    assert peers_reached(result.loss, case.logits) == ([1] if stops else [0, 1])
    p, y = case.logits.detach().softmax(-1), torch.nn.functional.one_hot(case.labels, 5)
    torch.testing.assert_close(slope(result.loss, case.logits)[1], (2 * p[1] - y - p[0]) / 4)


def without_averages() -> StepOutput:
    case = pcl_case()
    case.averaged = None
    return call(build("pcl", case), case)


def soft_labels() -> StepOutput:
    case = pair_case(0)
    case.labels = torch.full((4, 5), 0.2, dtype=torch.float64)
    return call(build("switokd", case), case)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: methods.build("pcl", PAIR, decay=1), "decay 1.0: a moving average keeps this share of itself; give 0"),
        (lambda: methods.build("pcl", PAIR, decay=-0.1), "decay -0.1: "),
        (lambda: methods.build("pcl", PAIR, temperature=0), "temperature 0.0: it must be greater than 0"),
        (lambda: methods.build("pcl", PAIR, ramp_up=80), "ramp_up 80.0: it is the share of the run"),
        (lambda: methods.build("pcl", GroupShape(1, 3, (8,))), "PCL with 1 peer(s): it needs at least 2; add peers."),
        (without_averages, "PCL needs the averaged peers' logits, and got none: "),
        (
            lambda: methods.build("switokd", GroupShape(3, 3, (8,) * 3)),
            "SwitOKD with 3 peers: it takes 2; for more networks use the method 'ind' (without distillation) or 'dml'.",
        ),
        (lambda: methods.build("switokd", GroupShape(1, 3, (8,))), "SwitOKD with 1 peer(s): it needs at least 2"),
        (lambda: methods.build("switokd", PAIR, teacher=2), "teacher 2: choose one of 0, 1."),
        (
            lambda: methods.build("switokd", GroupShape(2, 3, (8, 8), 6, shares_trunk=True)),
            "switokd with peers that share a trunk: the student that learns would move the trunk of the one that is "
            "paused; use networks.",
        ),
        (soft_labels, "SwitOKD got labels as probabilities: its target is defined by the one true class"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says: str) -> None:
    assert says in refusal(make)
