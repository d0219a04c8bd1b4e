"""KDCL's target rules worked out by hand; students U, V, S as in by_hand.py."""

from __future__ import annotations

import math
from math import log

import pytest
import torch
from by_hand import S, U, V, f64, scaled

from codistill import targets

Z = [(log(2), 0.0, log(5)), (log(6), log(3), 0.0)]  # p = (2, 1, 5)/8 and (6, 3, 1)/10


@pytest.mark.parametrize(("label", "best"), [(0, 1), (1, 1), (2, 0)])
def test_naive_takes_the_student_with_the_lower_cross_entropy(label: int, best: int) -> None:
    # Label 0: 1/4 < 3/5; label 1: 1/8 < 3/10; label 2: 5/8 > 1/10
    found = targets.naive(scaled(1, *Z), torch.tensor([label]))
    assert found.tolist() == [pytest.approx(list(Z[best]), rel=1e-15)]


def test_naive_decides_row_by_row() -> None:
    logits = f64([[V, V], [S, S]])
    assert targets.naive(logits, torch.tensor([0, 1])).tolist() == [list(V), list(S)]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # z - z_0: (0, -log 2, log 5/2), (0, -log 2, -log 6) -> minima (0, -log 2, -log 6)
        (0, [0.0, -log(2), -log(6)]),
        # z - z_1: (log 2, 0, log 5), (log 2, 0, -log 3) -> (log 2, 0, -log 3)
        (1, [log(2), 0.0, -log(3)]),
        # z - z_2: (-log 5/2, -log 5, 0), (log 6, log 3, 0) -> (-log 5/2, -log 5, 0)
        (2, [-log(5 / 2), -log(5), 0.0]),
    ],
)
def test_minlogit_takes_the_least_difference_to_the_label(label: int, expected: list[float]) -> None:
    found = targets.minlogit(scaled(1, *Z), torch.tensor([label]))
    assert found.tolist() == [pytest.approx(expected, abs=1e-14)]


def test_linear_mixes_two_students_that_err_in_opposite_directions() -> None:
    # z = (0, a, -a), (0, -a, a), label 0: by symmetry α = (1/2, 1/2), the target is (0, 0, 0), CE = log 3
    found, weights = targets.linear(scaled(1, (0, 2, -2), (0, -2, 2)), torch.tensor([0]))
    assert weights.tolist() == [pytest.approx([0.5], abs=1e-6), pytest.approx([0.5], abs=1e-6)]
    assert found.tolist() == [pytest.approx([0, 0, 0], abs=1e-5)]


def test_linear_with_unequal_weights() -> None:
    # z = (0, 2a, -2a), (0, -a, a): αᵀZ = (0, x, -x) with x = 2a α_1 - a α_2 is best at x = 0: α = (1/3, 2/3)
    _, weights = targets.linear(scaled(1, (0, 2, -2), (0, -1, 1)), torch.tensor([0]))
    assert weights[:, 0].tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-6)


def test_linear_of_two_classes_takes_the_largest_margin() -> None:
    # C = 2: CE falls with z_0 - z_1, which is linear in α: all weight on v for label 0, on s for label 1
    _, weights = targets.linear(f64([[U, U], [V, V], [S, S]]), torch.tensor([0, 1]))
    assert weights.T.tolist() == [pytest.approx([0, 1, 0], abs=1e-12), pytest.approx([0, 0, 1], abs=1e-12)]


def test_general_weights_of_two_students() -> None:
    # One sample, label 0, f_1 = (3/4, 1/4), f_2 = (1/2, 1/2): errors (-1/4, 1/4), (-1/2, 1/2):
    # C = [[1/8, 1/4], [1/4, 1/2]], singular; both err to the same side: all weight on the better one.
    weights = targets.general_weights(f64([[[0.75, 0.25]], [[0.5, 0.5]]]), torch.tensor([0]))
    assert weights.tolist() == pytest.approx([1, 0], abs=1e-9)


def test_general_weights_inside_the_simplex_are_the_closed_form() -> None:
    # Two samples, labels 0. Student 1 is right on the first and has (0, 1) on the second; student 2 has (1/2, 1/2) on
    # the first and (1, 0) on the second. Errors: 1: 0, (-1, 1); 2: (-1/2, 1/2), 0. C = 1/2 diag(2, 1/2) = diag(1, 1/4).
    # w = C⁻¹1 / 1ᵀC⁻¹1 = (1, 4)/5
    prob = f64([[[1, 0], [0, 1]], [[0.5, 0.5], [1, 0]]])
    assert targets.general_weights(prob, torch.tensor([0, 0])).tolist() == pytest.approx([1 / 5, 4 / 5], abs=1e-9)


def test_general_weights_of_equal_students_sum_to_one() -> None:
    prob = f64([[[0.75, 0.25]], [[0.75, 0.25]]])
    weights = targets.general_weights(prob, torch.tensor([1])).tolist()
    assert math.fsum(weights) == pytest.approx(1, abs=1e-12)
    assert min(weights) >= 0
