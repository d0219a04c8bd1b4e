"""OKDDip and its ablations worked out by hand; students U, V, S as in by_hand.py.

Two peers 3U, 3V and the leader 3S at T = 3, w = 1, label 0. At T = 1: CE = log 2, log 28/27, log 28.
"""

from __future__ import annotations

import math
from math import log

import pytest
import torch
from by_hand import L3, S, U, V, check, f64, kl, scaled, step
from torch import Tensor

from codistill import methods

OKDDIP_CE = [log(2), log(28 / 27), log(28)]


def attention(first_row: tuple[float, float], second_row: tuple[float, float]) -> tuple[tuple[Tensor, ...], object]:
    """Features and weights with L(h_a)ᵀE(h_b) as given: W_L reads feature 0..1, W_E features 2..3, width 2."""
    h_1 = f64([[first_row[0], first_row[1], 1, 0, 0, 0, 0, 0]])
    h_2 = f64([[second_row[0], second_row[1], 0, 1, 0, 0, 0, 0]])

    def setup(method: methods.Method) -> None:
        for side, first in ((method.attention.left, 0), (method.attention.right, 2)):
            side.weight.zero_()
            side.weight[0, first] = side.weight[1, first + 1] = 1.0

    return (h_1, h_2, torch.zeros(1, 8, dtype=torch.float64)), setup


def okddip_losses(dis1: list[float], dis2: float) -> tuple[list[float], dict[str, float]]:
    ce = OKDDIP_CE
    by_peer = [ce[0] + 9 * dis1[0], ce[1] + 9 * dis1[1], ce[2] + 9 * dis2]
    return by_peer, {"ce": sum(ce), "dis1": sum(dis1), "dis2": dis2}


def test_okddip_with_an_attention_worked_out_by_hand() -> None:
    # Scores: peer 1 (0, log 3), peer 2 (log 7, 0) -> α = [[1/4, 3/4], [7/8, 1/8]].
    # t_1 = 1/4 (1/2, 1/2) + 3/4 (3/4, 1/4) = (11/16, 5/16); t_2 = 7/8 (1/2, 1/2) + 1/8 (3/4, 1/4) = (17/32, 15/32)
    # t_m = (5/8, 3/8), against the leader's (1/4, 3/4)
    features, setup = attention((0, L3), (log(7), 0))
    result = step("okddip", scaled(3, U, V, S), [0], features=features, setup=setup, attention_width=2)
    dis1 = [kl([11 / 16, 5 / 16], [1 / 2, 1 / 2]), kl([17 / 32, 15 / 32], [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])))


def test_okddip_aggregating_logits() -> None:
    # α = [[1/2, 1/2], [2/3, 1/3]] on the logits' log 3 at T = 3: t_1 = (√3, 1)/(1+√3), t_2 = (3^⅓, 1)/(1+3^⅓);
    # t_m from the mean of the logits: the same as t_1.
    features, setup = attention((0, 0), (log(2), 0))
    options = {"aggregate": "logits", "leader_target": "logits", "attention_width": 2}
    result = step("okddip", scaled(3, U, V, S), [0], features=features, setup=setup, **options)
    root, cube = math.sqrt(3), 3 ** (1 / 3)
    t_1, t_2 = [root / (1 + root), 1 / (1 + root)], [cube / (1 + cube), 1 / (1 + cube)]
    dis1 = [kl(t_1, [1 / 2, 1 / 2]), kl(t_2, [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl(t_1, [1 / 4, 3 / 4])))


def test_okddip_released_preset_adds_a_tenth_of_a_millionth_to_its_targets() -> None:
    # All scores 0: α = 1/2; every target is (√3, 1)/(1+√3) + 1e-7.
    features, setup = attention((0, 0), (0, 0))
    options = {"preset": "released", "attention_width": 2}
    result = step("okddip", scaled(3, U, V, S), [0], features=features, setup=setup, **options)
    root = math.sqrt(3)
    t = [root / (1 + root) + 1e-7, 1 / (1 + root) + 1e-7]
    check(result, *okddip_losses([kl(t, [1 / 2, 1 / 2]), kl(t, [3 / 4, 1 / 4])], kl(t, [1 / 4, 3 / 4])))


def test_okddip_without_self() -> None:
    # Each peer's target is the other one: KL(v, u) and KL(u, v).
    result = step("okddip", scaled(3, U, V, S), [0], include_self=False)
    dis1 = [kl([3 / 4, 1 / 4], [1 / 2, 1 / 2]), kl([1 / 2, 1 / 2], [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])))


@pytest.mark.parametrize("gradient", ["attention", "all", "none"])
def test_okddip_mean_ablation(gradient: str) -> None:
    # t_1 = t_2 = t_m = (5/8, 3/8)
    result = step("okddip", scaled(3, U, V, S), [0], ablation="mean", gradient=gradient)
    t = [5 / 8, 3 / 8]
    check(result, *okddip_losses([kl(t, [1 / 2, 1 / 2]), kl(t, [3 / 4, 1 / 4])], kl(t, [1 / 4, 3 / 4])))


def test_okddip_asymmetry_ablation_takes_the_features_products() -> None:
    # h_1 = (1, 0), h_2 = (0, √log 3): scores [[1, 0], [0, log 3]] -> α_1 = (e, 1)/(1 + e), α_2 = (1/4, 3/4)
    features = (f64([[1, 0]]), f64([[0, math.sqrt(L3)]]), f64([[0, 0]]))
    result = step("okddip", scaled(3, U, V, S), [0], features=features, ablation="asymmetry")
    e = math.e / (1 + math.e)
    t_1 = [e / 2 + (1 - e) * 3 / 4, e / 2 + (1 - e) / 4]
    dis1 = [kl(t_1, [1 / 2, 1 / 2]), kl([11 / 16, 5 / 16], [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])))


def test_okddip_entropy_ablation_rewards_uncertain_peers() -> None:
    # Peers u and 3v: H = log 2, and (27/28, 1/28) has H = log 28 - 27/28 log 27. Weight 1/2, no ramp-up, no dis1.
    result = step("okddip", scaled(3, U, V, S), [0], ablation="entropy", entropy_weight=0.5)
    H = [log(2), log(28) - 27 / 28 * log(27)]
    dis2 = kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])
    by_peer = [OKDDIP_CE[0] - H[0] / 2, OKDDIP_CE[1] - H[1] / 2, OKDDIP_CE[2] + 9 * dis2]
    check(result, by_peer, {"ce": sum(OKDDIP_CE), "entropy": sum(H), "dis2": dis2})


def test_okddip_without_two_levels() -> None:
    # Three equal peers of the first level (features 0: α = 1/3): t = mean of (1/2, 3/4, 1/4) = 1/2; no leader.
    result = step("okddip", scaled(3, U, V, S), [0], ablation="no_two_level")
    soft = [0.0, kl([1 / 2, 1 / 2], [3 / 4, 1 / 4]), kl([1 / 2, 1 / 2], [1 / 4, 3 / 4])]
    expected = [c + 9 * k for c, k in zip(OKDDIP_CE, soft, strict=True)]
    check(result, expected, {"ce": sum(OKDDIP_CE), "dis1": sum(soft)})


def test_okddip_random_ablation_of_equal_peers_is_their_prediction() -> None:
    # Whatever α is, equal peers' target is their own prediction: dis1 = 0; dis2 = KL(v, s) = log(3)/2.
    result = step("okddip", scaled(3, V, V, S), [0], ablation="random")
    ce = [log(28 / 27), log(28 / 27), log(28)]
    by_peer = [ce[0], ce[1], ce[2] + 9 * L3 / 2]
    check(result, by_peer, {"ce": sum(ce), "dis1": 0.0, "dis2": L3 / 2})


def test_okddip_of_two_students_has_a_peer_that_attends_to_itself() -> None:
    # dis1 = 0, dis2 = KL(v, u)
    term = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    result = step("okddip", scaled(3, V, U), [0])
    parts = {"ce": log(28 / 27) + log(2), "dis1": 0.0, "dis2": term}
    check(result, [log(28 / 27), log(2) + 9 * term], parts)
