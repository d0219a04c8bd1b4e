"""How OKDDip draws its projections W_L and W_E: the distributions, the generator, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from codistill import methods
from codistill.types import GroupShape
from refusals import refusal

D, WIDTH = 512, 64  # 32,768 weights a side: their standard deviation is known to 0.4 %


def projections(seed: int = 0, widths: tuple[int, ...] = (D,) * 4, **options: Any) -> list[Tensor]:
    """The initial weights: W_Lᵀ and W_Eᵀ, or all W_Lᵀ and then all W_Eᵀ of peers of different widths."""
    shape = GroupShape(len(widths), 10, widths, trunk_width=8, shares_trunk=True)
    options = {"attention_width": WIDTH, **options}
    method = methods.build("okddip", shape, generator=torch.Generator().manual_seed(seed), **options)
    return [p.detach().double() for p in method.parameters()]


def inside(weights: Tensor, bound: float) -> float:
    """The share of weights within ± bound."""
    return float((weights.abs() < bound).double().mean())


def assert_normal(weights: Tensor, std: float) -> None:
    assert float(weights.std()) == pytest.approx(std, rel=0.03)
    assert abs(float(weights.mean())) < 0.03 * std
    # 68.3 % within one standard deviation, 95.4 % within two; of the uniform distribution 57.7 % and all.
    assert inside(weights, std) == pytest.approx(0.683, abs=0.015)
    assert inside(weights, 2 * std) == pytest.approx(0.954, abs=0.01)


def assert_uniform(weights: Tensor, bound: float) -> None:
    assert float(weights.std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(float(weights.mean())) < 0.03 * bound
    assert float(weights.abs().max()) <= bound * (1 + 1e-6)  # float32
    assert float(weights.max()) > 0.99 * bound
    assert float(weights.min()) < -0.99 * bound
    assert inside(weights, bound / 2) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize("options", [{}, {"projection_init": "normal"}], ids=str)
def test_the_default_is_normal_with_variance_one_over_the_width(options: dict) -> None:
    for weights in projections(**options):
        assert weights.shape == (WIDTH, D)
        assert_normal(weights, D**-0.5)


@pytest.mark.parametrize("options", [{"projection_init": "uniform"}, {"preset": "released"}], ids=str)
def test_uniform_within_one_over_the_root_of_the_width(options: dict) -> None:
    found = projections(**options)
    assert len(found) == 2
    for weights in found:
        assert_uniform(weights, D**-0.5)
        assert float(weights.std()) == pytest.approx((3 * D) ** -0.5, rel=0.03)


@pytest.mark.parametrize("std", [0.01, 0.5, 2])
@pytest.mark.parametrize("options", [{}, {"preset": "released"}], ids=str)
def test_a_number_is_the_standard_deviation_of_a_normal(options: dict, std: float) -> None:
    for weights in projections(projection_init=std, **options):
        assert_normal(weights, std)


def test_peers_of_different_widths_have_their_own_bounds() -> None:
    widths = (512, 1024, 256, 64)
    for init in ("normal", "uniform"):
        found = projections(widths=widths, projection_init=init)
        assert len(found) == 6
        for weights, D_a in zip(found, 2 * widths[:3], strict=True):  # the leader has none
            assert weights.shape == (WIDTH, D_a)
            if init == "normal":
                assert_normal(weights, D_a**-0.5)
            else:
                assert_uniform(weights, D_a**-0.5)


@pytest.mark.parametrize("init", ["normal", "uniform", 0.5])
def test_the_draw_depends_on_the_generator_alone(init: Any) -> None:
    before = torch.get_rng_state()
    first = projections(seed=1, projection_init=init)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = projections(seed=1, projection_init=init)
    other = projections(seed=2, projection_init=init)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert (a - c).abs().max() > 1e-3
    assert (first[0] - first[1]).abs().max() > 1e-3


@pytest.mark.parametrize("init", ["xavier", "0", 0.0, -1.0, float("inf"), float("nan")])
def test_another_initial_distribution_is_refused(init: Any) -> None:
    said = refusal(lambda: projections(projection_init=init))
    assert said.startswith("projection_init ")
    assert said.endswith(": give 'normal', 'uniform', or a standard deviation above 0.")
    value = float(init) if init != "xavier" else init
    assert said.startswith(f"projection_init {value!r}:")
