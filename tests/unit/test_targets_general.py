"""KDCL-General's weights are the constrained minimum, whatever the rank of C and wherever the closed form lands."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from codistill.errors import UserError
from codistill.targets import general_weights
from codistill.targets.general import error_covariance, simplex_minimum

Array = NDArray[np.float64]


def closed_form(C_PP: Array) -> Array:
    inverse_PP = np.linalg.inv(C_PP)
    return inverse_PP.sum(1) / inverse_PP.sum()


def least_by_enumeration(C_PP: Array) -> float:
    """The least w^T C w over every face of the simplex whose stationary point lies in it; C is scaled to 1."""
    best = np.inf
    for size in range(1, len(C_PP) + 1):
        for face in itertools.combinations(range(len(C_PP)), size):
            kkt = np.ones((size + 1, size + 1))
            kkt[:size, :size] = C_PP[np.ix_(face, face)]
            kkt[size, size] = 0
            w = (np.linalg.pinv(kkt, rcond=1e-14) @ np.append(np.zeros(size), 1.0))[:size]
            if (w >= -1e-10).all() and abs(w.sum() - 1) < 1e-8:
                w = np.clip(w, 0, None) / np.clip(w, 0, None).sum()
                best = min(best, float(w @ C_PP[np.ix_(face, face)] @ w))
    return best


def assert_optimal(C_PP: Array, w_P: Array) -> None:
    """w is on the simplex and (C w)_i >= w^T C w, equal where w_i > 0, to 1e-10 of the largest entry of C."""
    scale = np.abs(C_PP).max()
    assert (w_P >= 0).all()
    assert abs(w_P.sum() - 1) < 1e-12
    excess_P = C_PP @ w_P - w_P @ C_PP @ w_P
    assert excess_P.min() >= -1e-10 * scale
    assert np.abs(excess_P[w_P > 0]).max() <= 1e-10 * scale


def regular(rng: np.random.Generator, P: int) -> Array:
    A = rng.normal(size=(P + 4, P))
    return A.T @ A


def correlated(rng: np.random.Generator, P: int) -> Array:
    # A common error of all students, of different size: the closed form leaves the simplex.
    A = rng.normal(size=(P + 4, P)) + rng.uniform(1, 3, size=P) * rng.normal(size=(P + 4, 1)) * 3
    return A.T @ A


def singular(rng: np.random.Generator, P: int) -> Array:
    A = rng.normal(size=(max(1, P // 2), P)) + 0.5
    return A.T @ A


def repeated(rng: np.random.Generator, P: int) -> Array:
    A = rng.normal(size=(P + 2, P))
    A[:, P - 1] = A[:, 0]
    return A.T @ A


def nearly_equal(rng: np.random.Generator, P: int) -> Array:
    A = rng.normal(size=(P + 2, 1)) + rng.normal(size=(P + 2, P)) * 10 ** rng.uniform(-9, -2)
    return A.T @ A


def badly_scaled(rng: np.random.Generator, P: int) -> Array:
    A = rng.normal(size=(P + 2, P)) * 10 ** rng.uniform(-4, 4, size=P)
    return A.T @ A


@pytest.mark.parametrize("make", [regular, correlated, singular, repeated, nearly_equal, badly_scaled])
@pytest.mark.parametrize("P", [1, 2, 3, 5, 7])
def test_random_problems_reach_the_least_value_of_all_faces(make: Callable[..., Array], P: int) -> None:
    rng = np.random.default_rng(P)
    for _ in range(40 if P < 7 else 12):
        C_PP = make(rng, P)
        C_PP /= np.abs(C_PP).max()
        w_P = simplex_minimum(C_PP)
        assert_optimal(C_PP, w_P)
        assert w_P @ C_PP @ w_P == pytest.approx(least_by_enumeration(C_PP), abs=1e-11)


def test_many_students_are_no_other_case() -> None:
    rng = np.random.default_rng(0)
    for make in (regular, correlated, singular, repeated, nearly_equal):
        C_PP = make(rng, 40)
        assert_optimal(C_PP, simplex_minimum(C_PP))


def test_scipy_finds_the_same_minimum() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        C_PP = correlated(rng, 5)
        C_PP /= np.abs(C_PP).max()
        w_P = simplex_minimum(C_PP)
        found = minimize(
            lambda w, C=C_PP: (w @ C @ w, 2 * C @ w),
            np.full(5, 0.2),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14},
        )
        assert w_P @ C_PP @ w_P <= found.fun + 1e-12
        assert found.fun == pytest.approx(w_P @ C_PP @ w_P, abs=1e-7)


@pytest.mark.parametrize(
    ("C", "expected"),
    [
        ([[1, 0], [0, 1]], [1 / 2, 1 / 2]),
        ([[1, 0, 0], [0, 2, 0], [0, 0, 4]], [4 / 7, 2 / 7, 1 / 7]),  # independent errors: as 1 / C_ii
        ([[2, 1], [1, 3]], [2 / 3, 1 / 3]),
        ([[1, 2], [2, 5]], [1, 0]),  # closed form (1.5, -0.5): the better student takes all
        ([[5, 2], [2, 1]], [0, 1]),
        ([[1, 1], [1, 1]], [1 / 2, 1 / 2]),  # equal students, C of rank 1
        ([[1, 1, 2], [1, 1, 2], [2, 2, 9]], [1 / 2, 1 / 2, 0]),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], [1 / 4, 1 / 4, 1 / 2]),  # two equal ones share the half of one
        ([[0, 0], [0, 0]], [1 / 2, 1 / 2]),
        ([[1, -1], [-1, 1]], [1 / 2, 1 / 2]),  # opposite errors cancel
        # One of several mixtures with no error at all: r_1 = -r_2 = r_3.
        ([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], [1 / 4, 1 / 2, 1 / 4]),
    ],
)
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e6])
def test_hand_values(C: list[list[float]], expected: list[float], unit: float) -> None:
    assert simplex_minimum(np.array(C, dtype=float) * unit) == pytest.approx(np.array(expected), abs=1e-12)


def test_the_closed_form_holds_inside_and_only_there() -> None:
    rng = np.random.default_rng(2)
    seen = {True: 0, False: 0}
    for _ in range(200):
        C_PP = correlated(rng, 3) if rng.random() < 0.5 else regular(rng, 3)
        formula_P = closed_form(C_PP)
        inside = bool((formula_P > 1e-6).all())
        w_P = simplex_minimum(C_PP)
        seen[inside] += 1
        assert np.allclose(w_P, formula_P, atol=1e-9) == inside
    assert min(seen.values()) > 20


def test_least_norm_among_many_minimisers() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        A = rng.normal(size=(6, 4))
        C_PP = A.T @ A
        w_P = simplex_minimum(C_PP)
        students = [0, 1, 2, 3, 0, 1, 1]
        shared_P = simplex_minimum(C_PP[np.ix_(students, students)])
        copies = np.array([2, 3, 1, 1])
        assert shared_P == pytest.approx((w_P / copies)[students], abs=1e-9)


def test_rank_deficient_minimum_has_the_least_norm_that_scipy_finds() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        A = rng.normal(size=(2, 6))
        w_P = simplex_minimum(A.T @ A)
        assert_optimal(A.T @ A, w_P)
        found = minimize(
            lambda w: (w @ w, 2 * w),
            w_P,
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * 6,
            options={"ftol": 1e-14},
            constraints={"type": "eq", "fun": lambda w, A=A, w_P=w_P: np.append(A @ (w - w_P), w.sum() - 1)},
        )
        assert w_P @ w_P <= found.fun + 1e-8


def held_out(P: int, N: int, C: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_PNC = torch.randn(P, N, C, generator=generator, dtype=torch.float64) * 2
    return logits_PNC.softmax(2), torch.randint(0, C, (N,), generator=generator)


def test_covariance_is_the_written_out_sum() -> None:
    probs_PNC, labels_N = held_out(3, 7, 4)
    before_PNC = probs_PNC.clone()
    expected = np.zeros((3, 3))
    for i, j, k, c in itertools.product(range(3), range(3), range(7), range(4)):
        t = float(labels_N[k] == c)
        expected[i, j] += float((probs_PNC[i, k, c] - t) * (probs_PNC[j, k, c] - t)) / 7
    assert error_covariance(probs_PNC, labels_N).numpy() == pytest.approx(expected, rel=1e-12)
    assert probs_PNC.equal(before_PNC)


def test_covariance_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    probs_PNC, labels_N = held_out(3, 50, 6)
    whole_PP = error_covariance(probs_PNC, labels_N)
    monkeypatch.setattr("codistill.targets.general._CHUNK", 7 * 3 * 6)
    torch.testing.assert_close(error_covariance(probs_PNC, labels_N), whole_PP)


def test_weights_of_probabilities() -> None:
    # Residuals (-1, 1) and (-1/2, 1/2) on one sample: C = [[2, 1], [1, 1/2]], the second student takes all.
    probs_PNC = torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]]])
    weights_P = general_weights(probs_PNC, torch.tensor([0]))
    assert weights_P.dtype == torch.float64
    assert weights_P.tolist() == [0.0, 1.0]
    # Each student right where the other is wrong: half and half.
    probs_PNC = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    assert general_weights(probs_PNC, torch.tensor([0, 1])).tolist() == pytest.approx([0.5, 0.5])


def test_a_random_group_weighs_no_worse_than_its_best_member_or_its_mean() -> None:
    probs_PNC, labels_N = held_out(5, 300, 10, seed=1)
    weights_P = general_weights(probs_PNC, labels_N)
    C_PP = error_covariance(probs_PNC, labels_N)
    assert_optimal(C_PP.numpy(), weights_P.numpy())
    value = weights_P @ C_PP @ weights_P
    assert value <= C_PP.diagonal().min()
    assert value <= C_PP.mean()


def test_equal_students_and_student_order() -> None:
    probs_PNC, labels_N = held_out(3, 100, 5, seed=2)
    same_P = general_weights(probs_PNC[:1].expand(4, -1, -1), labels_N)
    assert same_P.tolist() == pytest.approx([0.25] * 4, abs=1e-12)
    weights_P = general_weights(probs_PNC[[0, 1, 2, 1]], labels_N)
    assert float(weights_P[1]) == pytest.approx(float(weights_P[3]), abs=1e-10)
    order = torch.tensor([2, 3, 0, 1])
    moved_P = general_weights(probs_PNC[[0, 1, 2, 1]][order], labels_N)
    torch.testing.assert_close(moved_P, weights_P[order], rtol=0, atol=1e-10)


def test_half_precision_and_gradients() -> None:
    probs_PNC, labels_N = held_out(3, 40, 5, seed=3)
    narrow_PNC = probs_PNC.to(torch.bfloat16)
    torch.testing.assert_close(general_weights(narrow_PNC, labels_N), general_weights(narrow_PNC.double(), labels_N))
    assert not general_weights(probs_PNC.requires_grad_(), labels_N).requires_grad


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), r"probabilities have shape \[4, 3\]"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "give floating point"),
        (torch.zeros(2, 0, 4), torch.zeros(0, dtype=torch.int64), "none empty"),
        (torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64), r"labels have shape \[2\]"),
        (torch.zeros(2, 3, 4), torch.zeros(3, 4), "give int64 class indices"),
        (torch.zeros(2, 3, 4), torch.tensor([0, 4, 1]), "label 4 with 4 classes"),
        (torch.zeros(2, 3, 4), torch.tensor([0, -1, 1]), "label -1 with 4 classes"),
        (torch.tensor([[[0.5, 0.5]], [[-2.0, 3.0]]]), torch.tensor([0]), "probabilities of peer 1 range from -2 to 3"),
        (torch.tensor([[[torch.nan, 0.5]], [[0.5, 0.5]]]), torch.tensor([0]), "probabilities of peer 0 range from nan"),
    ],
)
def test_bad_input_is_named_in_one_sentence(probs: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        general_weights(probs, labels)


def test_labels_on_another_device_are_refused() -> None:
    with pytest.raises(UserError, match="labels are on cpu, probabilities on meta"):
        general_weights(torch.zeros(2, 3, 4, device="meta"), torch.zeros(3, dtype=torch.int64))
