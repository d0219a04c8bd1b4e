"""OKDDip and its ablations worked out by hand; students U, V, S as in by_hand.py.

Two peers 3U, 3V and the leader 3S at T = 3, w = 1, label 0. At T = 1: CE = log 2, log 28/27, log 28. Where peers attend
to the others only, two have no choice: there the peers are 3U, 3V, 3S and the leader is another 3V.
"""

from __future__ import annotations

import math
from math import log

import pytest
import torch
from by_hand import L3, S, U, V, check, f64, kl, scaled, step
from torch import Tensor

from codistill import methods
from codistill.types import GroupShape

OKDDIP_CE = [log(2), log(28 / 27), log(28)]
# The students' softened predictions, and even odds.
u, v, s = [1 / 2, 1 / 2], [3 / 4, 1 / 4], [1 / 4, 3 / 4]
HALF = u


def attention(*rows: tuple[float, ...]) -> tuple[tuple[Tensor, ...], object]:
    """Features of A peers and the leader, and weights, with L(h_a)ᵀE(h_b) as given in row a; attention_width is A.

    W_L reads features 0..A-1, the row; W_E features A..2A-1, the peer's own unit vector.
    """
    A = len(rows)
    h = [[*row, *(float(b == a) for b in range(A)), *[0.0] * (8 - 2 * A)] for a, row in enumerate(rows)]

    def setup(method: methods.Method) -> None:
        for side, first in ((method.attention.left, 0), (method.attention.right, A)):
            side.weight.zero_()
            for k in range(A):
                side.weight[k, first + k] = 1.0

    return (*(f64([values]) for values in h), torch.zeros(1, 8, dtype=torch.float64)), setup


def okddip_losses(dis1: list[float], dis2: float) -> tuple[list[float], dict[str, float]]:
    ce = OKDDIP_CE
    by_peer = [ce[0] + 9 * dis1[0], ce[1] + 9 * dis1[1], ce[2] + 9 * dis2]
    return by_peer, {"ce": sum(ce), "dis1": sum(dis1), "dis2": dis2}


def three_peer_losses(t: list[list[float]], t_m: list[float]) -> tuple[list[float], dict[str, float]]:
    """Peers 3U, 3V, 3S with the targets t, leader 3V with the target t_m."""
    ce = [log(2), log(28 / 27), log(28), log(28 / 27)]
    soft = [kl(target, q) for target, q in zip([*t, t_m], [u, v, s, v], strict=True)]
    by_peer = [c + 9 * k for c, k in zip(ce, soft, strict=True)]
    return by_peer, {"ce": sum(ce), "dis1": sum(soft[:3]), "dis2": soft[3]}


# Scores of three peers. Their own are the largest: where a peer attends to the others only they must not count.
SCORES = ((7.0, 0.0, L3), (log(7), 5.0, 0.0), (0.0, log(2), 3.0))


@pytest.mark.parametrize("options", [{}, {"include_self": False}], ids=str)
def test_okddip_peers_attend_to_the_others_only(options: dict) -> None:
    # α_1 = (-, 1/4, 3/4), α_2 = (7/8, -, 1/8), α_3 = (1/3, 2/3, -):
    # t_1 = 1/4 (3/4, 1/4) + 3/4 (1/4, 3/4) = (3/8, 5/8); t_2 = 7/8 (1/2, 1/2) + 1/8 (1/4, 3/4) = (15/32, 17/32)
    # t_3 = 1/3 (1/2, 1/2) + 2/3 (3/4, 1/4) = (2/3, 1/3); t_m = mean of the three = (1/2, 1/2)
    features, setup = attention(*SCORES)
    result = step("okddip", scaled(3, U, V, S, V), [0], features=features, setup=setup, attention_width=3, **options)
    check(result, *three_peer_losses([[3 / 8, 5 / 8], [15 / 32, 17 / 32], [2 / 3, 1 / 3]], HALF))


def test_okddip_aggregating_the_others_logits() -> None:
    # Logits over T are 0 or log 3. α as above: t_1 from (1/4, 3/4) log 3, so 1 : √3; t_2 from (0, 1/8) log 3, so
    # 1 : 3^⅛; t_3 from (2/3, 0) log 3, so 3^⅔ : 1; t_m from (1/3, 1/3) log 3, so 1 : 1.
    features, setup = attention(*SCORES)
    options = {"aggregate": "logits", "leader_target": "logits", "attention_width": 3}
    result = step("okddip", scaled(3, U, V, S, V), [0], features=features, setup=setup, **options)
    odds = [1 / math.sqrt(3), 3 ** (-1 / 8), 3 ** (2 / 3)]
    check(result, *three_peer_losses([[x / (1 + x), 1 / (1 + x)] for x in odds], HALF))


def test_okddip_released_preset_of_three_peers_attends_to_all_of_them() -> None:
    # All scores 0, α = 1/3: every target is softmax of (1/3, 1/3) log 3, plus 1e-7.
    features, setup = attention(*([(0.0, 0.0, 0.0)] * 3))
    options = {"preset": "released", "attention_width": 3}
    result = step("okddip", scaled(3, U, V, S, V), [0], features=features, setup=setup, **options)
    t = [1 / 2 + 1e-7, 1 / 2 + 1e-7]
    check(result, *three_peer_losses([t, t, t], t))


def test_okddip_adds_its_epsilon_to_both_levels_targets() -> None:
    features, setup = attention(*SCORES)
    options = {"attention_width": 3, "target_epsilon": 1 / 32}
    result = step("okddip", scaled(3, U, V, S, V), [0], features=features, setup=setup, **options)
    t = [[13 / 32, 21 / 32], [16 / 32, 18 / 32], [2 / 3 + 1 / 32, 1 / 3 + 1 / 32]]
    check(result, *three_peer_losses(t, [17 / 32, 17 / 32]))


def test_okddip_mean_ablation_of_the_others() -> None:
    # 1/(A - 1) = 1/2 each: t_1 = (v + s)/2, t_2 = (u + s)/2, t_3 = (u + v)/2
    result = step("okddip", scaled(3, U, V, S, V), [0], ablation="mean")
    check(result, *three_peer_losses([HALF, [3 / 8, 5 / 8], [5 / 8, 3 / 8]], HALF))


def test_okddip_asymmetry_ablation_of_the_others() -> None:
    # h = (1, 0), (0, 1), (log 3, log 7): products h_1 h_2 = 0, h_1 h_3 = log 3, h_2 h_3 = log 7.
    # α_1 = (-, 1/4, 3/4), α_2 = (1/8, -, 7/8), α_3 = (3/10, 7/10, -)
    # t_2 = 1/8 (1/2, 1/2) + 7/8 (1/4, 3/4) = (9/32, 23/32); t_3 = 3/10 (1/2, 1/2) + 7/10 (3/4, 1/4) = (27/40, 13/40)
    features = (f64([[1, 0]]), f64([[0, 1]]), f64([[L3, log(7)]]), f64([[0, 0]]))
    result = step("okddip", scaled(3, U, V, S, V), [0], features=features, ablation="asymmetry")
    check(result, *three_peer_losses([[3 / 8, 5 / 8], [9 / 32, 23 / 32], [27 / 40, 13 / 40]], HALF))


def test_okddip_without_two_levels_learns_from_the_others() -> None:
    # Three peers of the first level, features 0: α = 1/2. t_1 = (v + s)/2, t_2 = (u + s)/2, t_3 = (u + v)/2
    result = step("okddip", scaled(3, U, V, S), [0], ablation="no_two_level")
    soft = [0.0, kl([3 / 8, 5 / 8], v), kl([5 / 8, 3 / 8], s)]
    check(result, [c + 9 * k for c, k in zip(OKDDIP_CE, soft, strict=True)], {"ce": sum(OKDDIP_CE), "dis1": sum(soft)})


# From here on two peers.


def test_okddip_with_an_attention_worked_out_by_hand() -> None:
    # Scores: peer 1 (0, log 3), peer 2 (log 7, 0) -> α = [[1/4, 3/4], [7/8, 1/8]].
    # t_1 = 1/4 (1/2, 1/2) + 3/4 (3/4, 1/4) = (11/16, 5/16); t_2 = 7/8 (1/2, 1/2) + 1/8 (3/4, 1/4) = (17/32, 15/32)
    # t_m = (5/8, 3/8), against the leader's (1/4, 3/4)
    features, setup = attention((0, L3), (log(7), 0))
    options = {"include_self": True, "attention_width": 2}
    result = step("okddip", scaled(3, U, V, S), [0], features=features, setup=setup, **options)
    dis1 = [kl([11 / 16, 5 / 16], [1 / 2, 1 / 2]), kl([17 / 32, 15 / 32], [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])))


def test_okddip_aggregating_logits() -> None:
    # α = [[1/2, 1/2], [2/3, 1/3]] on the logits' log 3 at T = 3: t_1 = (√3, 1)/(1+√3), t_2 = (3^⅓, 1)/(1+3^⅓);
    # t_m from the mean of the logits: the same as t_1.
    features, setup = attention((0, 0), (log(2), 0))
    options = {"aggregate": "logits", "leader_target": "logits", "include_self": True, "attention_width": 2}
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


@pytest.mark.parametrize("ablation", [None, "mean", "random", "asymmetry"])
@pytest.mark.parametrize("options", [{}, {"include_self": False}], ids=str)
def test_okddip_two_peers_have_each_other(options: dict, ablation: str | None) -> None:
    # Each peer's target is the other one, whatever the attention is: KL(v, u) and KL(u, v).
    result = step("okddip", scaled(3, U, V, S), [0], ablation=ablation, **options)
    dis1 = [kl([3 / 4, 1 / 4], [1 / 2, 1 / 2]), kl([1 / 2, 1 / 2], [3 / 4, 1 / 4])]
    check(result, *okddip_losses(dis1, kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])))


@pytest.mark.parametrize("gradient", ["attention", "all", "none"])
def test_okddip_mean_ablation(gradient: str) -> None:
    # t_1 = t_2 = t_m = (5/8, 3/8)
    result = step("okddip", scaled(3, U, V, S), [0], ablation="mean", gradient=gradient, include_self=True)
    t = [5 / 8, 3 / 8]
    check(result, *okddip_losses([kl(t, [1 / 2, 1 / 2]), kl(t, [3 / 4, 1 / 4])], kl(t, [1 / 4, 3 / 4])))


def test_okddip_asymmetry_ablation_takes_the_features_products() -> None:
    # h_1 = (1, 0), h_2 = (0, √log 3): scores [[1, 0], [0, log 3]] -> α_1 = (e, 1)/(1 + e), α_2 = (1/4, 3/4)
    features = (f64([[1, 0]]), f64([[0, math.sqrt(L3)]]), f64([[0, 0]]))
    result = step("okddip", scaled(3, U, V, S), [0], features=features, ablation="asymmetry", include_self=True)
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
    result = step("okddip", scaled(3, U, V, S), [0], ablation="no_two_level", include_self=True)
    soft = [0.0, kl([1 / 2, 1 / 2], [3 / 4, 1 / 4]), kl([1 / 2, 1 / 2], [1 / 4, 3 / 4])]
    expected = [c + 9 * k for c, k in zip(OKDDIP_CE, soft, strict=True)]
    check(result, expected, {"ce": sum(OKDDIP_CE), "dis1": sum(soft)})


def test_okddip_random_ablation_of_equal_peers_is_their_prediction() -> None:
    # Whatever α is, equal peers' target is their own prediction: dis1 = 0; dis2 = KL(v, s) = log(3)/2.
    result = step("okddip", scaled(3, V, V, S), [0], ablation="random")
    ce = [log(28 / 27), log(28 / 27), log(28)]
    by_peer = [ce[0], ce[1], ce[2] + 9 * L3 / 2]
    check(result, by_peer, {"ce": sum(ce), "dis1": 0.0, "dis2": L3 / 2})


@pytest.mark.parametrize("ablation", [None, "mean", "random", "asymmetry"])
@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"include_self": True}], ids=str)
def test_okddip_of_two_students_has_a_peer_that_attends_to_itself(options: dict, ablation: str | None) -> None:
    # dis1 = 0, dis2 = KL(v, u)
    term = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    result = step("okddip", scaled(3, V, U), [0], ablation=ablation, **options)
    parts = {"ce": log(28 / 27) + log(2), "dis1": 0.0, "dis2": term}
    check(result, [log(28 / 27), log(2) + 9 * term], parts)


@pytest.mark.parametrize("options", [{}, {"include_self": False}, {"include_self": True}], ids=str)
def test_okddip_of_two_students_says_that_its_peer_attends_to_itself(options: dict) -> None:
    shape = GroupShape(2, 10, (8, 8), trunk_width=2, shares_trunk=True)
    (said,) = methods.build("okddip", shape, **options).cautions()
    assert said.startswith("okddip with 2 peers: the one auxiliary peer attends to itself alone")


def test_okddip_of_three_students_says_that_its_two_peers_have_no_choice() -> None:
    shape = GroupShape(3, 10, (8, 8, 8), trunk_width=2, shares_trunk=True)
    (said,) = methods.build("okddip", shape).cautions()
    assert said.startswith("okddip with 3 peers: each of the two auxiliary peers attends to the other alone")
    assert methods.build("okddip", shape, include_self=True).cautions() == []
    assert methods.build("okddip", shape, ablation="mean").cautions() == []
