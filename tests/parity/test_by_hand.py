"""Every method but okddip worked out by hand; students U, V, S as in by_hand.py."""

from __future__ import annotations

import math
from math import log

import pytest
from by_hand import L3, S, U, V, check, f64, kl, scaled, step

from codistill import methods
from codistill.types import Progress


def test_baseline_is_the_batch_mean_of_the_cross_entropy() -> None:
    # p = (3/4, 1/4) with label 0, p = (1/4, 3/4) with label 0: CE = (log 4/3 + log 4) / 2
    ce = (log(4 / 3) + log(4)) / 2
    check(step("baseline", f64([[V, S]]), [0, 0]), [ce], {"ce": ce})


def test_ind_sums_the_students() -> None:
    # p_1 = (1/2, 1/2), p_2 = (3/4, 1/4), label 0: log 2 + log 4/3 = log 8/3
    check(step("ind", scaled(1, U, V), [0]), [log(2), log(4 / 3)], {"ce": log(8 / 3)})


@pytest.mark.parametrize("lam", [1.0, 0.5])
def test_kd_of_one_teacher(lam: float) -> None:
    # T = 2, teacher softens to (3/4, 1/4), student z = u: (1/2, 1/2) at every T; label 1.
    # KL = 3/4 log 3/2 + 1/4 log 1/2; L = log 2 + λ·4·KL
    term = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    result = step("kd", scaled(1, U), [1], teachers=scaled(2, V), temperature=2.0, weight=lam)
    check(result, [log(2) + 4 * lam * term], {"ce": log(2), "kd": term})


def test_dml_pairwise() -> None:
    # L_1 = log 2 + KL(v, u), L_2 = log 4/3 + KL(u, v); label 0
    a = 3 / 4 * log(3 / 2) + 1 / 4 * log(1 / 2)
    b = 1 / 2 * log(2 / 3) + 1 / 2 * log(2)
    check(step("dml", scaled(1, U, V), [0]), [log(2) + a, log(4 / 3) + b], {"ce": log(8 / 3), "kd": a + b})


def test_dml_divides_by_the_number_of_the_others() -> None:
    # Students u, v, s; label 0. L_1 = log 2 + 1/2 (KL(v,u) + KL(s,u)), and KL(v,s) = 3/4 log 3 - 1/4 log 3 = log(3)/2
    vu, uv, vs = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2]), kl([1 / 2, 1 / 2], [3 / 4, 1 / 4]), log(3) / 2
    soft = [(vu + vu) / 2, (uv + vs) / 2, (uv + vs) / 2]
    ce = [log(2), log(4 / 3), log(4)]
    check(
        step("dml", scaled(1, U, V, S), [0]),
        [c + k for c, k in zip(ce, soft, strict=True)],
        {"ce": sum(ce), "kd": sum(soft)},
    )


def test_dml_multiplies_by_the_squared_temperature() -> None:
    # T = 2, logits 2u and 2v: softened (1/2, 1/2), (3/4, 1/4); at T = 1 2v is (9/10, 1/10).
    a, b = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2]), kl([1 / 2, 1 / 2], [3 / 4, 1 / 4])
    result = step("dml", scaled(2, U, V), [0], temperature=2.0)
    check(result, [log(2) + 4 * a, log(10 / 9) + 4 * b], {"ce": log(2) + log(10 / 9), "kd": a + b})


def test_dml_mean_of_the_others() -> None:
    # Students u, v, s: the mean of the others is (1/2, 1/2) for u, (3/8, 5/8) for v, (5/8, 3/8) for s. Label 0.
    soft = [0.0, kl([3 / 8, 5 / 8], [3 / 4, 1 / 4]), kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])]
    ce = [log(2), log(4 / 3), log(4)]
    result = step("dml", scaled(1, U, V, S), [0], target="mean")
    check(result, [c + k for c, k in zip(ce, soft, strict=True)], {"ce": sum(ce), "kd": sum(soft)})


@pytest.mark.parametrize("name", ["cl_ilr", "clnn"])
def test_collaborative_heads_learn_from_the_mean_of_the_others(name: str) -> None:
    # T = 3, logits 3u, 3v, 3s; at T = 1 3v is (27/28, 1/28). Ramp-up over: w = 1. Targets as in the test before.
    soft = [0.0, kl([3 / 8, 5 / 8], [3 / 4, 1 / 4]), kl([5 / 8, 3 / 8], [1 / 4, 3 / 4])]
    ce = [log(2), log(28 / 27), log(28)]
    expected = [c + 9 * k for c, k in zip(ce, soft, strict=True)]
    check(step(name, scaled(3, U, V, S), [0]), expected, {"ce": sum(ce), "kd": sum(soft)})


@pytest.mark.parametrize("name", ["dml", "cl_ilr", "clnn"])
def test_the_released_preset_averages_logits_and_adds_a_tenth_of_a_millionth(name: str) -> None:
    # T = 3, logits 3u, 3v, 3s, w = 1. Mean of the others' logits over T, in log 3: (1/2, 1/2) for u, (0, 1/2) for v,
    # (1/2, 0) for s; odds 1 : 1, 1 : √3, √3 : 1. 1e-7 is added to both classes, and the sum stays above 1.
    root = math.sqrt(3)
    t_u, t_v = [1 / 2 + 1e-7, 1 / 2 + 1e-7], [1 / (1 + root) + 1e-7, root / (1 + root) + 1e-7]
    soft = [kl(t_u, [1 / 2, 1 / 2]), kl(t_v, [3 / 4, 1 / 4]), kl(t_v[::-1], [1 / 4, 3 / 4])]
    assert soft[0] == pytest.approx(2e-7, rel=1e-6)
    ce = [log(2), log(28 / 27), log(28)]
    expected = [c + 9 * k for c, k in zip(ce, soft, strict=True)]
    check(step(name, scaled(3, U, V, S), [0], preset="released"), expected, {"ce": sum(ce), "kd": sum(soft)})


@pytest.mark.parametrize(
    ("given", "T"), [({}, 1.0), ({"temperature": None}, 1.0), ({"temperature": 2.0}, 2.0)], ids=str
)
def test_dml_softens_by_1_unless_told_otherwise(given: dict, T: float) -> None:
    vu, uv = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2]), kl([1 / 2, 1 / 2], [3 / 4, 1 / 4])
    result = step("dml", scaled(T, U, V), [0], **given)
    assert result.parts["kd"].item() == pytest.approx(vu + uv, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "T"), [({}, 3.0), ({"temperature": None}, 3.0), ({"temperature": 1.0}, 1.0)], ids=str
)
def test_dml_s_released_preset_softens_by_3_unless_told_otherwise(given: dict, T: float) -> None:
    t = [3 / 4 + 1e-7, 1 / 4 + 1e-7], [1 / 2 + 1e-7, 1 / 2 + 1e-7]
    soft = kl(t[0], [1 / 2, 1 / 2]) + kl(t[1], [3 / 4, 1 / 4])
    result = step("dml", scaled(T, U, V), [0], preset="released", **given)
    assert result.parts["kd"].item() == pytest.approx(soft, rel=1e-12)
    ce = result.parts["ce"].item()
    assert ce == pytest.approx(log(2) + math.log1p(3**-T), rel=1e-12)
    assert result.loss.item() == pytest.approx(ce + T**2 * soft, rel=1e-12)


def test_dml_adds_its_epsilon_to_every_pairwise_target() -> None:
    # t = v + 1/16 for u, u + 1/16 for v.
    soft = [kl([13 / 16, 5 / 16], [1 / 2, 1 / 2]), kl([9 / 16, 9 / 16], [3 / 4, 1 / 4])]
    ce = [log(2), log(4 / 3)]
    result = step("dml", scaled(1, U, V), [0], target_epsilon=1 / 16)
    check(result, [c + k for c, k in zip(ce, soft, strict=True)], {"ce": sum(ce), "kd": sum(soft)})


@pytest.mark.parametrize(("epoch", "w"), [(0.0, math.exp(-5)), (40.0, math.exp(-5 / 4)), (80.0, 1.0), (300.0, 1.0)])
@pytest.mark.parametrize("name", ["cl_ilr", "clnn"])
def test_ramp_up_of_80_of_300_epochs(name: str, epoch: float, w: float) -> None:
    # w(0) = exp(-5), w(40) = exp(-5 (1/2)²) = exp(-5/4), w(80) = 1
    term = kl([1 / 2, 1 / 2], [3 / 4, 1 / 4])
    result = step(name, scaled(3, U, V), [0], progress=Progress(epoch, 300))
    other = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    check(result, [log(2) + 9 * w * other, log(28 / 27) + 9 * w * term], {"ce": log(56 / 27), "kd": other + term})


def test_ramp_up_scales_with_the_length_of_the_run() -> None:
    long, short = (step("clnn", scaled(3, U, V), [0], progress=Progress(n * 20 / 300, n)) for n in (300, 30))
    assert long.loss.item() == pytest.approx(short.loss.item(), rel=1e-14)


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({}, [3 / 4, 1 / 4], [3 / 4, 1 / 4]),
        # 3/4 (9/10, 1/10) + 1/4 (1/10, 9/10) = (7/10, 3/10); image 2 as before.
        ({"aggregate": "probabilities"}, [7 / 10, 3 / 10], [3 / 4, 1 / 4]),
        ({"preset": "released"}, [3 / 4 + 1e-7, 1 / 4 + 1e-7], [3 / 4 + 1e-7, 1 / 4 + 1e-7]),
        (
            {"aggregate": "probabilities", "target_epsilon": 1 / 20, "gradient": "all"},
            [3 / 4, 7 / 20],
            [4 / 5, 3 / 10],
        ),
    ],
    ids=str,
)
def test_one_with_a_gate_worked_out_by_hand(options: dict, first: list[float], second: list[float]) -> None:
    # Two images, trunk features (1, 0), (-1, 0); W = [[1, 0], [0, 0]]: raw = (1, -1) for branch 1, 0 for branch 2.
    # Branch 1: mean 0, variance 1, so the norm gives ±1/√(1 + ε); scale log 3 √(1 + ε), shift 0, ReLU: (log 3, 0).
    # Gates: image 1 (3/4, 1/4), image 2 (1/2, 1/2). T = 2, labels 0.
    # Image 1: logits (4 log 3, 0) and (-4 log 3, 0): z_e = (3 - 1) log 3 = (2 log 3, 0), p = (9/10, 1/10), softened v;
    #   students softened (9/10, 1/10) and (1/10, 9/10), and at T = 1, 3⁴ = 81: (81/82, 1/82) and (1/82, 81/82).
    # Image 2: both students (2 log 3, 0), softened v, and so is z_e: KL = 0 unless something is added.
    def setup(method: methods.Method) -> None:
        method.gate.linear.weight.copy_(f64([[1, 0], [0, 0]]))
        method.gate.norm.weight.fill_(L3 * math.sqrt(1 + method.gate.norm.eps))
        method.gate.norm.bias.zero_()

    logits = f64([[(4 * L3, 0), (2 * L3, 0)], [(-4 * L3, 0), (2 * L3, 0)]])
    result = step("one", logits, [0, 0], trunk=f64([[1, 0], [-1, 0]]), temperature=2.0, setup=setup, **options)
    same = kl(second, [3 / 4, 1 / 4])
    soft = [(kl(first, [9 / 10, 1 / 10]) + same) / 2, (kl(first, [1 / 10, 9 / 10]) + same) / 2]
    ce = [(log(82 / 81) + log(10 / 9)) / 2, (log(82) + log(10 / 9)) / 2]
    ensemble = log(10 / 9)  # always that of z_e
    parts = {"ce": sum(ce), "kd": sum(soft), "ce_ensemble": ensemble}
    check(result, [c + 4 * k for c, k in zip(ce, soft, strict=True)], parts, beside=ensemble)


# T = 2 in all four: logits 2u, 2v; at T = 1 2v is (9/10, 1/10). λ = 1/2, so λT² = 2. Label 0.


@pytest.mark.parametrize("name", ["kdcl_naive", "kdcl_linear", "kdcl_minlogit"])
def test_kdcl_rules_take_the_better_of_two_students_on_two_classes(name: str) -> None:
    # All three rules give v for two classes: v has the lower CE, the largest margin, the least z_1 - z_0.
    term = kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])
    result = step(name, scaled(2, U, V), [0], temperature=2.0, weight=0.5)
    check(result, [log(2) + 2 * term, log(10 / 9)], {"ce": log(2) + log(10 / 9), "kd": term})


@pytest.mark.parametrize(("weights", "t"), [(None, math.sqrt(3)), ([0.0, 1.0], 3.0), ([1.0, 0.0], 1.0)])
def test_kdcl_general_mixes_logits_with_its_weights(weights: list[float] | None, t: float) -> None:
    # z_t / T = (w_2 log 3, 0): softmax (3^w_2, 1)/(1 + 3^w_2); before the first epoch w = 1/2.
    def setup(method: methods.Method) -> None:
        if weights is not None:
            method.weights_P.copy_(f64(weights))

    result = step("kdcl_general", scaled(2, U, V), [0], temperature=2.0, weight=0.5, setup=setup)
    target = [t / (1 + t), 1 / (1 + t)]
    soft = [kl(target, [1 / 2, 1 / 2]), kl(target, [3 / 4, 1 / 4])]
    check(result, [log(2) + 2 * soft[0], log(10 / 9) + 2 * soft[1]], {"ce": log(2) + log(10 / 9), "kd": sum(soft)})
