"""KDCL-Linear is the constrained minimum: against SciPy, the optimality conditions, hand values and extreme logits."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from codistill.errors import UserError
from codistill.targets import linear, linear_combination
from recorded_ops import RecordedOps

# `codistill.targets.linear` is the function; the module of that name is reached by its path.
MODULE = sys.modules["codistill.targets.linear"]
NEWTON = sys.modules["codistill.targets.newton"]
INTERIOR = sys.modules["codistill.targets.interior"]
FIXED = sys.modules["codistill.targets.interior_fixed"]
CONTRACT = 1e-6


@pytest.fixture(params=["on the CPU", "as on a device"])
def solver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The solver that reads what is left, or the one for devices, which reads nothing; both run here on the CPU."""
    if request.param == "as on a device":
        monkeypatch.setattr(MODULE, "read_freely", lambda _: False)
    return request.param


BOTH_SOLVERS = pytest.mark.usefixtures("solver")


def problems(P: int, B: int, C: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_PBC = torch.randn(P, B, C, generator=generator, dtype=torch.float64) * spread
    return logits_PBC, torch.randint(0, C, (B,), generator=generator)


def shifted(logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    wide_PBC = logits_PBC.double()
    return wide_PBC - wide_PBC.gather(2, labels_B.expand(len(wide_PBC), -1).unsqueeze(2))


def objective(logits_PBC: Tensor, labels_B: Tensor, weights_PB: Tensor) -> Tensor:
    """CE(alpha^T Z, y) of every sample, [B]."""
    return (weights_PB.double().unsqueeze(2) * shifted(logits_PBC, labels_B)).sum(0).logsumexp(1)


def slopes(logits_PBC: Tensor, labels_B: Tensor, weights_PB: Tensor) -> Tensor:
    """The gradient of CE(alpha^T Z, y) with respect to alpha, [P, B], written out without the solver's help."""
    mixed_BC = (weights_PB.unsqueeze(2) * shifted(logits_PBC, labels_B)).sum(0)
    return (shifted(logits_PBC, labels_B) * mixed_BC.softmax(1)).sum(2)


def gap(logits_PBC: Tensor, labels_B: Tensor, weights_PB: Tensor) -> Tensor:
    """alpha^T g - min_i g_i: an upper bound [B] on what the objective is above the true minimum."""
    g_PB = slopes(logits_PBC, labels_B, weights_PB)
    return (weights_PB * g_PB).sum(0) - g_PB.amin(0)


def assert_on_simplex(weights_PB: Tensor) -> None:
    assert weights_PB.dtype == torch.float64
    assert bool((weights_PB >= 0).all())
    torch.testing.assert_close(weights_PB.sum(0), torch.ones_like(weights_PB[0]), rtol=0, atol=1e-12)


def scipy_minimum(D_PSC: np.ndarray) -> float:
    """The least mean of logsumexp(alpha^T D) over S samples, by SLSQP with the gradient."""
    P, S, _ = D_PSC.shape

    def mean_loss(alpha_P: np.ndarray) -> tuple[float, np.ndarray]:
        x_SC = np.tensordot(alpha_P, D_PSC, 1)
        top_S1 = x_SC.max(1, keepdims=True)
        e_SC = np.exp(x_SC - top_S1)
        sum_S1 = e_SC.sum(1, keepdims=True)
        return float((top_S1 + np.log(sum_S1)).mean()), np.tensordot(D_PSC, e_SC / sum_S1, 2) / S

    simplex = {"type": "eq", "fun": lambda a: a.sum() - 1, "jac": lambda a: np.ones(P)}
    found = minimize(
        mean_loss,
        np.full(P, 1 / P),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * P,
        constraints=simplex,
        options={"ftol": 1e-10, "maxiter": 300},
    )
    alpha_P = np.clip(found.x, 0, 1)
    return mean_loss(alpha_P / alpha_P.sum())[0]


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [0.3, 3.0, 12.0])
@pytest.mark.parametrize(("P", "C"), [(2, 2), (2, 10), (3, 5), (4, 10), (4, 100), (8, 30)])
def test_the_loss_is_the_one_that_scipy_finds(P: int, C: int, spread: float) -> None:
    B = 120
    logits_PBC, labels_B = problems(P, B, C, spread, seed=P * C)
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    assert_on_simplex(weights_PB)
    loss_B = objective(logits_PBC, labels_B, weights_PB).numpy()
    D = shifted(logits_PBC, labels_B).numpy()
    scipy_B = np.array([scipy_minimum(D[:, b : b + 1]) for b in range(B)])
    assert (loss_B <= scipy_B + CONTRACT).all()
    # SLSQP stops early now and then; where it succeeds, it confirms the value from the other side.
    assert np.median(np.abs(loss_B - scipy_B)) < 1e-7
    torch.testing.assert_close(target_BC, (weights_PB.unsqueeze(2) * logits_PBC).sum(0))


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0, 30.0, 1000.0])
@pytest.mark.parametrize("P", [2, 4, 8, 32])
def test_the_optimality_conditions_hold(P: int, spread: float) -> None:
    logits_PBC, labels_B = problems(P, 200 if P <= 8 else 40, 20, spread, seed=P)
    weights_PB = linear(logits_PBC, labels_B)[1]
    assert_on_simplex(weights_PB)
    assert gap(logits_PBC, labels_B, weights_PB).max() <= CONTRACT
    g_PB = slopes(logits_PBC, labels_B, weights_PB)
    mean_B = (weights_PB * g_PB).sum(0)
    assert (g_PB >= mean_B - CONTRACT).all()
    in_use = weights_PB > 0.01
    assert ((g_PB - mean_B).abs()[in_use] <= CONTRACT / 0.01).all()


def extreme(name: str, P: int, C: int) -> tuple[Tensor, Tensor]:
    logits_PBC, labels_B = problems(P, 30 if C < 1000 else 4, C, 1.0, seed=3)
    label_PB1 = labels_B.expand(P, -1).unsqueeze(2)
    if name == "signs of 1e4":
        return logits_PBC.sign() * 1e4, labels_B
    if name == "uniform to 1e4":
        return (torch.special.ndtr(logits_PBC) * 2 - 1) * 1e4, labels_B
    if name == "label largest":
        return (logits_PBC * 3).scatter(2, label_PB1, 15.0), labels_B
    if name == "label smallest":
        return (logits_PBC * 3).scatter(2, label_PB1, -15.0), labels_B
    if name == "label largest by 1e4":
        return (logits_PBC * 1e3).scatter(2, label_PB1, 1e4), labels_B
    if name == "label smallest by 1e4":
        return (logits_PBC * 1e3).scatter(2, label_PB1, -1e4), labels_B
    if name == "one dominates":
        logits_PBC[P - 1].scatter_(1, labels_B.unsqueeze(1), 60.0)
        return logits_PBC, labels_B
    if name == "equal":
        return logits_PBC[:1].repeat(P, 1, 1) * 5, labels_B
    if name == "nearly equal":
        return logits_PBC[:1] * 5 + 1e-6 * logits_PBC, labels_B
    if name == "nearly equal at 1e4":
        return logits_PBC[:1] * 3e3 + 1e-3 * logits_PBC, labels_B
    assert name == "constant"
    return torch.zeros_like(logits_PBC) + 7e3, labels_B


EXTREMES = [
    "signs of 1e4", "uniform to 1e4", "label largest", "label smallest", "label largest by 1e4",
    "label smallest by 1e4", "one dominates", "equal", "nearly equal", "nearly equal at 1e4", "constant",
]  # fmt: skip


@BOTH_SOLVERS
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("P", [1, 2, 4, 8])
@pytest.mark.parametrize("C", [2, 11, 1000])
def test_extreme_logits_are_solved_with_a_certificate(name: str, P: int, C: int) -> None:
    logits_PBC, labels_B = extreme(name, P, C)
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    assert_on_simplex(weights_PB)
    assert bool(torch.isfinite(target_BC).all())
    assert gap(logits_PBC, labels_B, weights_PB).max() <= CONTRACT


@BOTH_SOLVERS
def test_many_nearly_equal_students_with_large_logits() -> None:
    # What they share is 1e7 times as large as what they differ in: the solver must not square it first.
    generator = torch.Generator().manual_seed(0)
    noise_PBC = torch.randn(32, 256, 50, generator=generator, dtype=torch.float64)
    logits_PBC, labels_B = noise_PBC[:1] * 5e3 + 1e-3 * noise_PBC, torch.randint(0, 50, (256,), generator=generator)
    weights_PB = linear(logits_PBC, labels_B)[1]
    assert_on_simplex(weights_PB)
    assert gap(logits_PBC, labels_B, weights_PB).max() <= CONTRACT


@BOTH_SOLVERS
@pytest.mark.parametrize(("P", "C", "spread"), [(2, 3, 1e6), (4, 10, 1e8), (4, 100, 1e30), (8, 100, 1e300)])
def test_any_finite_logits_come_to_an_end(P: int, C: int, spread: float) -> None:
    logits_PBC, labels_B = problems(P, 300, C, spread, seed=0)
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    assert_on_simplex(weights_PB)
    assert bool(torch.isfinite(target_BC).all())


@BOTH_SOLVERS
def test_two_students_at_1e4_reach_the_minimum_of_a_bisection() -> None:
    logits_PBC, labels_B = extreme("uniform to 1e4", 2, 11)
    D_PBC = shifted(logits_PBC, labels_B).numpy().astype(np.longdouble)

    def loss(alpha_B: np.ndarray) -> np.ndarray:
        x_BC = alpha_B[:, None] * D_PBC[0] + (1 - alpha_B[:, None]) * D_PBC[1]
        top_B1 = x_BC.max(1, keepdims=True)
        return top_B1[:, 0] + np.log(np.exp(x_BC - top_B1).sum(1))

    low_B, high_B = np.zeros(30, np.longdouble), np.ones(30, np.longdouble)
    for _ in range(200):
        left_B, right_B = low_B + (high_B - low_B) / 3, high_B - (high_B - low_B) / 3
        falls_B = loss(left_B) > loss(right_B)
        low_B, high_B = np.where(falls_B, left_B, low_B), np.where(falls_B, high_B, right_B)
    weights_PB = linear(logits_PBC, labels_B)[1]
    excess_B = loss(weights_PB[0].numpy().astype(np.longdouble)) - np.minimum(
        loss((low_B + high_B) / 2), np.minimum(loss(np.zeros(30)), loss(np.ones(30)))
    )
    assert excess_B.max() <= CONTRACT
    assert excess_B.min() >= -CONTRACT


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [1e5, 1e6, 1e9, 1e15, 1e30])
@pytest.mark.parametrize("P", [2, 4])
def test_logits_beyond_the_contract_are_solved_to_their_resolution(P: int, spread: float) -> None:
    logits_PBC, labels_B = problems(P, 60, 10, spread, seed=5)
    weights_PB = linear(logits_PBC, labels_B)[1]
    assert_on_simplex(weights_PB)
    loss_B = objective(logits_PBC, labels_B, weights_PB)
    generator = torch.Generator().manual_seed(1)
    # The largest difference is about six times the spread; rounding of the objective comes on top.
    resolution = (1e-11 if spread < 1e8 else 1e-8) * spread + CONTRACT
    for _ in range(200):
        # Towards the answer from everywhere, at every distance: nothing on the way is better.
        other_PB = torch.rand(P, 60, generator=generator, dtype=torch.float64).pow(3)
        share = 10 ** float(-9 * torch.rand((), generator=generator))
        near_PB = (1 - share) * weights_PB + share * other_PB / other_PB.sum(0)
        assert (loss_B <= objective(logits_PBC, labels_B, near_PB) + resolution).all()
    assert (loss_B <= shifted(logits_PBC, labels_B).logsumexp(2).amin(0) + resolution).all()


@BOTH_SOLVERS
@pytest.mark.parametrize(
    ("D_PC", "expected"),
    [
        ([[0.0, -3.0], [0.0, 1.0]], [1.0, 0.0]),  # two classes: F rises with alpha^T D, the better student takes all
        ([[0.0, 2.0], [0.0, 1.0]], [0.0, 1.0]),
        ([[0.0, 2.0], [0.0, 2.0]], [0.5, 0.5]),
        ([[0.0, 4.0, -4.0], [0.0, -4.0, 4.0]], [0.5, 0.5]),  # opposite errors cancel: x = 0, F = log 3
        # F = log(1 + e^{a} + e^{2(1 - a)}): e^{a} = 2 e^{2(1 - a)}, so a = (2 + log 2) / 3.
        ([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], [(2 + np.log(2)) / 3, (1 - np.log(2)) / 3]),
        ([[0.0, 0.1, 0.0], [0.0, 0.0, 5.0]], [1.0, 0.0]),  # (5 + log 50) / 5.1 > 1: the bound holds
    ],
)
def test_hand_solved_cases(D_PC: list[list[float]], expected: list[float]) -> None:
    logits_PBC = torch.tensor(D_PC, dtype=torch.float64).unsqueeze(1)
    labels_B = torch.tensor([0])
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    # F is known to 1e-6, so an inner alpha to about the root of it; a bound is met exactly.
    assert weights_PB[:, 0].tolist() == pytest.approx(expected, abs=2e-4)
    best_P1 = torch.tensor(expected, dtype=torch.float64).unsqueeze(1)
    best = float(objective(logits_PBC, labels_B, best_P1))
    assert float(torch.nn.functional.cross_entropy(target_BC, labels_B)) == pytest.approx(best, abs=CONTRACT)


@BOTH_SOLVERS
def test_one_student_is_its_own_target_and_an_empty_batch_stays_empty() -> None:
    logits_PBC, labels_B = problems(1, 5, 3, 1.0)
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    assert target_BC.equal(logits_PBC[0])
    assert weights_PB.equal(torch.ones(1, 5, dtype=torch.float64))
    target_BC, weights_PB = linear(torch.zeros(4, 0, 3), torch.zeros(0, dtype=torch.int64))
    assert target_BC.shape == (0, 3)
    assert weights_PB.shape == (4, 0)


@BOTH_SOLVERS
def test_equal_students_share_alike() -> None:
    logits_PBC, labels_B = problems(3, 200, 10, 3.0, seed=9)
    assert linear(logits_PBC[:1].expand(4, -1, -1), labels_B)[1].equal(torch.full((4, 200), 0.25, dtype=torch.float64))
    doubled_PBC = logits_PBC[[0, 1, 2, 0]]
    weights_PB = linear(doubled_PBC, labels_B)[1]
    assert (weights_PB[0] - weights_PB[3]).abs().max() < 1e-5
    assert gap(doubled_PBC, labels_B, weights_PB).max() <= CONTRACT


@BOTH_SOLVERS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_types_give_the_solution_of_the_same_numbers_in_fp64(dtype: torch.dtype) -> None:
    logits_PBC, labels_B = problems(4, 64, 20, 3.0, seed=2)
    narrow_PBC = logits_PBC.to(dtype)
    target_BC, weights_PB = linear(narrow_PBC, labels_B)
    exact_BC, exact_PB = linear(narrow_PBC.double(), labels_B)
    assert target_BC.dtype == torch.float32
    assert exact_BC.dtype == torch.float64
    torch.testing.assert_close(weights_PB, exact_PB)
    torch.testing.assert_close(target_BC, exact_BC.float())
    assert gap(narrow_PBC, labels_B, weights_PB).max() <= CONTRACT


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [2.0, 300.0])
def test_neither_the_order_nor_the_company_of_samples_and_students_matters(spread: float) -> None:
    logits_PBC, labels_B = problems(4, 50, 15, spread, seed=6)
    weights_PB = linear(logits_PBC, labels_B)[1]
    order_B = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    close = {"rtol": 0, "atol": 1e-9 if spread < 10 else 1e-5}
    torch.testing.assert_close(linear(logits_PBC[:, order_B], labels_B[order_B])[1], weights_PB[:, order_B], **close)
    torch.testing.assert_close(linear(logits_PBC[:, 7:8], labels_B[7:8])[1], weights_PB[:, 7:8], **close)
    students_P = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(linear(logits_PBC[students_P], labels_B)[1], weights_PB[students_P], rtol=0, atol=1e-5)
    # A constant added to a student's logits changes none of its probabilities.
    lifted_PBC = logits_PBC + torch.tensor([5.0, -3.0, 0.0, 40.0]).view(4, 1, 1)
    torch.testing.assert_close(linear(lifted_PBC, labels_B)[1], weights_PB, rtol=0, atol=1e-5)


@BOTH_SOLVERS
@pytest.mark.parametrize("P", [1, 3])
def test_no_gradient_passes_and_the_input_stays_as_it_was(P: int) -> None:
    logits_PBC, labels_B = problems(P, 8, 5, 2.0)
    before_PBC = logits_PBC.clone()
    logits_PBC.requires_grad_()
    target_BC, weights_PB = linear(logits_PBC * 1.0, labels_B)
    assert not target_BC.requires_grad
    assert not weights_PB.requires_grad
    (target_BC * logits_PBC).sum().backward()
    assert logits_PBC.grad is not None
    torch.testing.assert_close(logits_PBC.grad, target_BC.expand(P, -1, -1))
    assert logits_PBC.detach().equal(before_PBC)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.testing.assert_close(linear(logits_PBC, labels_B)[1], weights_PB)


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [1.0, 8.0, 500.0])
def test_one_weight_for_the_whole_batch_minimises_the_mean(spread: float) -> None:
    logits_PBC, labels_B = problems(4, 30, 12, spread, seed=8)
    target_BC, weights_PB = linear(logits_PBC, labels_B, per_batch=True)
    assert_on_simplex(weights_PB)
    assert weights_PB.equal(weights_PB[:, :1].expand(-1, 30))
    torch.testing.assert_close(target_BC, torch.einsum("p,pbc->bc", weights_PB[:, 0], logits_PBC))
    g_P = slopes(logits_PBC, labels_B, weights_PB).mean(1)
    assert float(weights_PB[:, 0] @ g_P - g_P.min()) <= CONTRACT
    mean = float(objective(logits_PBC, labels_B, weights_PB).mean())
    assert mean == pytest.approx(scipy_minimum(shifted(logits_PBC, labels_B).numpy()), abs=1e-5)


@BOTH_SOLVERS
def test_per_batch_of_one_sample_is_per_sample() -> None:
    logits_PBC, labels_B = problems(4, 1, 12, 3.0, seed=8)
    single = objective(logits_PBC, labels_B, linear(logits_PBC, labels_B)[1])
    whole = objective(logits_PBC, labels_B, linear(logits_PBC, labels_B, per_batch=True)[1])
    torch.testing.assert_close(single, whole, rtol=0, atol=CONTRACT)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_each_of_the_two_solvers_alone_reaches_the_minimum(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits_PBC, labels_B = problems(5, 100, 15, spread, seed=4)
    monkeypatch.setattr(NEWTON, "_EVALUATIONS", 1)
    assert gap(logits_PBC, labels_B, linear(logits_PBC, labels_B)[1]).max() <= CONTRACT
    if spread < 10:
        monkeypatch.setattr(NEWTON, "_EVALUATIONS", 100)
        monkeypatch.setattr(MODULE, "interior_point", lambda _: pytest.fail("Newton left a sample"))
        assert gap(logits_PBC, labels_B, linear(logits_PBC, labels_B)[1]).max() <= CONTRACT


def test_newton_steps_finish_nearly_all_samples_of_wide_logits() -> None:
    # Mixed models meet the kinks between classes; with plain Newton steps half of the samples would be left.
    logits_PBC, labels_B = problems(4, 1024, 100, 10.0, seed=0)
    D_BPC = shifted(logits_PBC, labels_B).transpose(0, 1)
    certified_B = NEWTON.newton((D_BPC - D_BPC.amax((1, 2), keepdim=True)).contiguous(), 5e-7)[1]
    assert int((~certified_B).sum()) <= 5


@BOTH_SOLVERS
def test_a_sample_that_is_not_finite_neither_stalls_nor_spoils_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a GPU sees, where the check is left out.
    monkeypatch.setattr(MODULE, "_check", lambda *_: None)
    logits_PBC, labels_B = problems(3, 6, 5, 20.0)
    clean_PB = linear(logits_PBC, labels_B)[1]
    logits_PBC[1, 2, 3] = torch.nan
    logits_PBC[0, 4, 0] = torch.inf
    weights_PB = linear(logits_PBC, labels_B)[1]
    assert weights_PB[:, [2, 4]].equal(torch.full((3, 2), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(weights_PB[:, [0, 1, 3, 5]], clean_PB[:, [0, 1, 3, 5]], rtol=0, atol=1e-9)


def test_no_certificate_is_an_error_of_ours_and_not_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(INTERIOR, "_ITERATIONS", 2)
    logits_PBC, labels_B = extreme("uniform to 1e4", 4, 11)
    with pytest.raises(RuntimeError, match="without a certificate"):
        linear(logits_PBC, labels_B)


def test_a_device_has_no_error_to_raise_and_says_which_samples_lack_a_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODULE, "read_freely", lambda _: False)
    logits_PBC, labels_B = problems(4, 50, 10, 3.0)
    logits_PBC[2, 7, 3], logits_PBC[0, 20, 0] = torch.nan, torch.inf
    _, weights_PB, certified_B = linear_combination(logits_PBC, labels_B)
    assert (~certified_B).nonzero().flatten().tolist() == [7, 20]
    assert_on_simplex(weights_PB)
    monkeypatch.setattr(FIXED, "_STEPS", 9)
    _, weights_PB, certified_B = linear_combination(logits_PBC, labels_B)
    assert_on_simplex(weights_PB)
    clean_B = torch.isfinite(logits_PBC).all(2).all(0)
    gap_B = gap(logits_PBC[:, clean_B], labels_B[clean_B], weights_PB[:, clean_B])
    assert certified_B[clean_B].equal(gap_B <= CONTRACT / 2)
    assert 5 < int(certified_B.sum()) < 45


def test_a_device_agrees_with_the_cpu_where_the_minimum_is_one_point(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_PBC, labels_B = problems(4, 200, 50, 3.0)
    expected_BC, expected_PB = linear(logits_PBC, labels_B)
    monkeypatch.setattr(MODULE, "read_freely", lambda _: False)
    target_BC, weights_PB = linear(logits_PBC, labels_B)
    torch.testing.assert_close(weights_PB, expected_PB, rtol=0, atol=2e-4)
    torch.testing.assert_close(target_BC, expected_BC, rtol=0, atol=2e-3)


@BOTH_SOLVERS
@pytest.mark.parametrize("spread", [1.0, 30.0, 3e3])
def test_samples_that_are_not_kept_have_no_say_in_the_weight_of_the_batch(spread: float) -> None:
    logits_PBC, labels_B = problems(4, 60, 12, spread, seed=8)
    kept_B = torch.arange(60) % 3 == 0
    found = linear_combination(logits_PBC, labels_B, True, kept_B)
    assert_on_simplex(found.weights_PB)
    assert bool(found.certified_B.all())
    g_P = slopes(logits_PBC, labels_B, found.weights_PB)[:, kept_B].mean(1)
    assert float(found.weights_PB[:, 0] @ g_P - g_P.min()) <= CONTRACT
    nobody_B = torch.zeros(60, dtype=torch.bool)
    quarter_PB = torch.full((4, 60), 0.25, dtype=torch.float64)
    assert linear_combination(logits_PBC, labels_B, True, nobody_B).weights_PB.equal(quarter_PB)


@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize(("P", "B", "spread"), [(2, 8, 0.1), (8, 64, 1e4)])
def test_a_device_is_given_the_same_number_of_operations_for_all_logits(
    P: int, B: int, spread: float, per_batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "read_freely", lambda _: False)
    with RecordedOps() as recorded:
        linear(*problems(P, B, 10, spread), per_batch=per_batch)
    launched = [func for func, *_ in recorded.calls if not func.is_view]
    # The figure of docs/methods/kdcl_linear.md.
    assert len(launched) == pytest.approx(2550, abs=50)


@BOTH_SOLVERS
def test_large_batches_share_a_certified_weight() -> None:
    for spread in (0.1, 3.0, 100.0, 3e3):
        logits_PBC, labels_B = problems(5, 256, 20, spread, seed=3)
        weights_PB = linear(logits_PBC, labels_B, per_batch=True)[1]
        g_P = slopes(logits_PBC, labels_B, weights_PB).mean(1)
        assert float(weights_PB[:, 0] @ g_P - g_P.min()) <= CONTRACT


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), r"logits have shape \[4, 3\]"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "give floating point"),
        (torch.zeros(0, 3, 4), torch.zeros(3, dtype=torch.int64), r"logits have shape \[0, 3, 4\]"),
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64), r"labels have shape \[2\]"),
        (torch.zeros(2, 3, 4), torch.zeros(3, 4), "give int64 class indices"),
        (torch.zeros(2, 3, 4), torch.zeros(3), "labels have shape .* and dtype torch.float32"),
        (torch.zeros(2, 3, 4), torch.tensor([0, 4, 1]), "label 4 with 4 classes"),
        (torch.zeros(2, 3, 4), torch.tensor([0, -1, 1]), "label -1 with 4 classes"),
        (torch.tensor([[[0.0, 1.0]], [[0.0, torch.nan]]]), torch.tensor([0]), "peer 1 hold NaN or infinity"),
        (torch.tensor([[[torch.inf, 1.0]], [[0.0, 1.0]]]), torch.tensor([0]), "peer 0 hold NaN or infinity"),
    ],
)
def test_bad_input_is_named_in_one_sentence(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        linear(logits, labels)


def test_labels_on_another_device_are_refused() -> None:
    with pytest.raises(UserError, match="labels are on cpu, logits on meta"):
        linear(torch.zeros(2, 3, 4, device="meta"), torch.zeros(3, dtype=torch.int64))
