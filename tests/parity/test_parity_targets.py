"""KDCL's target rules against slow independent solutions and against the optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
import reference_targets as ref
import torch
from torch import Tensor

from codistill import targets


def draw(m: int, B: int, C: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(17 * seed + 1000 * m + C)
    logits = torch.randn(m, B, C, generator=g, dtype=torch.float64) * scale
    return logits, torch.randint(C, (B,), generator=g)


def rows(logits: Tensor) -> list[list[Tensor]]:
    return [list(z) for z in logits.double()]


def plain(logits: Tensor, n: int) -> list[list[float]]:
    return logits[:, n].double().tolist()


@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_naive_agrees(m: int, C: int) -> None:
    logits, labels = draw(m, 9, C)
    expected = torch.stack(ref.naive(rows(logits), labels.tolist()))
    assert torch.equal(targets.naive(logits, labels), expected)
    assert torch.equal(targets.naive(logits.float(), labels), expected.float())


@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_minlogit_agrees(m: int, C: int) -> None:
    logits, labels = draw(m, 9, C)
    expected = torch.stack(ref.minlogit(rows(logits), labels.tolist()))
    assert torch.equal(targets.minlogit(logits, labels), expected)
    assert torch.allclose(targets.minlogit(logits.float(), labels), expected.float(), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("C", [2, 5, 11, 100])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_linear_reaches_the_minimum_of_every_row(m: int, C: int, dtype: torch.dtype) -> None:
    B = 6 if C < 100 else 2  # the reference takes its time
    logits, labels = draw(m, B, C)
    logits = logits.to(dtype)
    found_BC, weights_PB = targets.linear(logits, labels)
    assert found_BC.shape == (B, C)
    assert weights_PB.shape == (m, B)
    assert (weights_PB >= 0).all()
    assert torch.allclose(weights_PB.double().sum(0), torch.ones(B, dtype=torch.float64), atol=1e-6)
    mixed_BC = torch.einsum("pb,pbc->bc", weights_PB.double(), logits.double())
    assert torch.allclose(found_BC.double(), mixed_BC, atol=1e-10 if dtype == torch.float64 else 1e-5)
    for n in range(B):
        Z, y = [plain(logits, n)], [int(labels[n])]
        best = ref.linear_weights(Z, y)
        assert ref.gap(Z, y, best) <= 1e-10, "the reference itself has not converged"
        alpha = weights_PB[:, n].double()
        alpha = (alpha / alpha.sum()).tolist()
        least = ref.objective(Z, y, best)
        assert ref.objective(Z, y, alpha) - least <= 1e-6
        assert ref.gap(Z, y, alpha) <= (1e-6 if dtype == torch.float64 else 1e-4)
        if C > 2 and dtype == torch.float64 and least > 0.1:  # elsewhere the objective is too flat to fix α
            assert np.allclose(alpha, best, atol=2e-3)


@pytest.mark.parametrize("label_is", ["largest", "smallest"])
@pytest.mark.parametrize("scale", [0.01, 30.0, 1e4])
def test_linear_reaches_the_minimum_for_odd_scales_and_labels(scale: float, label_is: str) -> None:
    # The gap is a certificate by convexity alone; the reference's descent sticks at the kinks of such logits.
    logits, labels = draw(4, 32, 7, seed=1, scale=scale)
    labels = logits.sum(0).argmax(-1) if label_is == "largest" else logits.sum(0).argmin(-1)
    _, weights_PB = targets.linear(logits, labels)
    for n in range(32):
        assert ref.gap([plain(logits, n)], [int(labels[n])], weights_PB[:, n].tolist()) <= 1e-6


@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_linear_per_batch_reaches_the_minimum_of_the_mean(m: int, C: int) -> None:
    logits, labels = draw(m, 8, C, seed=3)
    found_BC, weights = targets.linear(logits, labels, per_batch=True)
    alpha_P = weights[:, 0] if weights.ndim == 2 else weights
    assert torch.allclose(found_BC, torch.einsum("p,pbc->bc", alpha_P, logits), atol=1e-9)
    Z, y = [plain(logits, n) for n in range(8)], labels.tolist()
    best = ref.linear_weights(Z, y)
    assert ref.gap(Z, y, best) <= 1e-10, "the reference itself has not converged"
    assert ref.gap(Z, y, alpha_P.tolist()) <= 1e-6


def test_linear_of_equal_students_is_their_logits() -> None:
    logits, labels = draw(1, 5, 6)
    found_BC, weights_PB = targets.linear(logits.expand(3, 5, 6), labels)
    assert torch.allclose(found_BC, logits[0], atol=1e-12)
    assert torch.allclose(weights_PB.sum(0), torch.ones(5, dtype=torch.float64))


def test_linear_gives_all_weight_to_a_dominating_student() -> None:
    logits, labels = draw(3, 5, 6, seed=2)
    logits[0] /= 4
    logits[1] = logits[0] - 3 * (1 - torch.nn.functional.one_hot(labels, 6))  # the same, all but the label 3 lower
    logits[2] = logits[0] + 1 - torch.nn.functional.one_hot(labels, 6)
    _, weights_PB = targets.linear(logits, labels)
    assert torch.allclose(weights_PB[1], torch.ones(5, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("C", [2, 5])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_general_weights_agree(m: int, C: int) -> None:
    for seed in range(4):
        logits, labels = draw(m, 40, C, seed=seed, scale=1.0 + seed)
        prob = torch.softmax(logits, -1)
        matrix = ref.error_matrix(rows(prob), labels.tolist())
        expected = ref.simplex_minimum(matrix)
        weights = targets.general_weights(prob, labels).double().numpy()
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-9)
        assert weights @ matrix @ weights <= expected @ matrix @ expected + 1e-10
        assert np.allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("copies", [2, 3])
def test_general_weights_reach_the_minimum_for_singular_matrices(copies: int) -> None:
    logits, labels = draw(2, 30, 4, seed=5)
    prob = torch.softmax(logits, -1)
    for nudge in (0.0, 1e-9, 1e-6):
        noise = 1 + nudge * torch.arange(copies)[:, None, None]
        near = prob[:1] * noise
        prob_PNC = torch.cat([near / near.sum(-1, keepdim=True), prob[1:]])
        matrix = ref.error_matrix(rows(prob_PNC), labels.tolist())
        weights = targets.general_weights(prob_PNC, labels).double().numpy()
        expected = ref.simplex_minimum(matrix)
        assert weights.sum() == pytest.approx(1, abs=1e-9)
        assert (weights >= 0).all()
        assert weights @ matrix @ weights <= expected @ matrix @ expected + 1e-10


def test_general_weights_are_the_closed_form_where_it_lies_inside() -> None:
    # Two students that err in opposite directions: w_k = Σ_j C⁻¹_kj / Σ_ij C⁻¹_ij is inside the simplex.
    for seed in range(30):
        logits, labels = draw(3, 50, 5, seed=seed, scale=1.0)
        prob = torch.softmax(logits, -1)
        inverse = np.linalg.inv(ref.error_matrix(rows(prob), labels.tolist()))
        closed = inverse.sum(1) / inverse.sum()
        if (closed > 0.01).all():
            assert np.allclose(targets.general_weights(prob, labels).numpy(), closed, atol=1e-7)
            return
    pytest.fail("no random problem had its closed form inside the simplex")
