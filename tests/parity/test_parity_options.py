"""DML, CL-ILR, CLNN and ONE with every way to make a target, and the presets of the released code, on random inputs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from harness import RELEASED, TOLERANCE, Case, build, call, compare, gradients, make_case

from codistill import UserError, methods
from refusals import refusal

DTYPES = [torch.float64, torch.float32]
SPACES = ["probabilities", "logits"]
OF_MEANS = ["cl_ilr", "clnn", "dml", "one"]
# 0.01 is more than rounding in float32, too; the 1e-7 of the presets is not.
GRID = list(itertools.product(SPACES, ["none", "all"], [0.0, 0.01]))


def of_mean(name: str) -> dict[str, Any]:
    return {"target": "mean"} if name == "dml" else {}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize(("aggregate", "gradient", "epsilon"), GRID)
@pytest.mark.parametrize("name", OF_MEANS)
def test_targets_that_are_means_agree(
    name: str, aggregate: str, gradient: str, epsilon: float, m: int, dtype: torch.dtype
) -> None:
    options = {"aggregate": aggregate, "gradient": gradient, "target_epsilon": epsilon, **of_mean(name)}
    compare(name, make_case(m=m, seed=70, B=3, dtype=dtype), **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
@pytest.mark.parametrize("gradient", ["none", "all"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_dml_pairwise_agrees(temperature: float, gradient: str, epsilon: float, m: int, dtype: torch.dtype) -> None:
    options = {"temperature": temperature, "gradient": gradient, "target_epsilon": epsilon}
    compare("dml", make_case(m=m, seed=71, dtype=dtype), **options)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("aggregate", SPACES)
@pytest.mark.parametrize("name", OF_MEANS)
def test_temperatures_agree_with_nothing_detached(name: str, aggregate: str, temperature: float) -> None:
    options = {"aggregate": aggregate, "gradient": "all", "target_epsilon": 0.01, **of_mean(name)}
    compare(name, make_case(seed=72), temperature=temperature, **options)


@pytest.mark.parametrize("ramp_up", [0.0, 0.5])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", [n for n in RELEASED if n != "dml"])
def test_ramp_up_of_the_released_preset_agrees(name: str, fraction: float, ramp_up: float) -> None:
    compare(name, make_case(m=4, B=3, seed=73, fraction=fraction), preset="released", ramp_up=ramp_up)


@pytest.mark.parametrize("aggregate", SPACES)
def test_one_agrees_in_evaluation_mode_with_nothing_detached(aggregate: str) -> None:
    case = make_case(m=4, seed=74)
    options = {"aggregate": aggregate, "gradient": "all", "target_epsilon": 0.01}
    method = build("one", case, **options)
    for _ in range(3):
        call(method, case)
    compare("one", case, method=method.eval(), **options)


def test_one_s_own_ensemble_is_of_logits_whatever_its_target_is_made_of() -> None:
    case = make_case(m=3, seed=75)
    of_probabilities, of_logits = (build("one", case, aggregate=a).eval().own_ensemble(case.outputs) for a in SPACES)
    assert of_probabilities is not None
    assert of_logits is not None
    assert torch.equal(of_probabilities, of_logits)


@pytest.mark.parametrize("option", [{"aggregate": "logits"}, {"gradient": "all"}, {"target_epsilon": 0.01}], ids=str)
@pytest.mark.parametrize("name", OF_MEANS)
def test_an_option_is_not_what_the_default_does(name: str, option: dict) -> None:
    if name == "one" and "aggregate" in option:
        option = {"aggregate": "probabilities"}
    case = make_case(seed=76)
    plain, other = (call(build(name, case, **of_mean(name), **o), case) for o in ({}, option))
    slopes = [gradients(r.loss, {"z": case.logits})["z"] for r in (plain, other)]
    assert (slopes[0] - slopes[1]).abs().max() > 1e-5
    assert ("gradient" in option) == torch.equal(plain.loss, other.loss)


# The preset "released".


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("name", RELEASED)
def test_the_released_preset_agrees(name: str, m: int, dtype: torch.dtype) -> None:
    for C in (2, 5, 11):
        compare(name, make_case(m=m, C=C, seed=77, B=3, dtype=dtype), preset="released")


@pytest.mark.parametrize("given", [{}, {"temperature": 2.0}, {"temperature": 1.0}], ids=str)
@pytest.mark.parametrize("name", RELEASED)
def test_the_released_preset_is_its_options(name: str, given: dict) -> None:
    case = make_case(m=4, seed=78)
    leaves = case.leaves()
    spelled_out = {**RELEASED[name], **given}
    steps = [call(build(name, case, **o), case) for o in ({"preset": "released", **given}, spelled_out)]
    assert torch.equal(steps[0].loss_by_peer, steps[1].loss_by_peer)
    slopes = [gradients(s.loss, leaves) for s in steps]
    assert all(torch.equal(slopes[0][k], slopes[1][k]) for k in leaves)
    # Said once more, the preset's own values do no harm.
    again = call(build(name, case, preset="released", **spelled_out), case)
    assert torch.equal(again.loss_by_peer, steps[0].loss_by_peer)


@pytest.mark.parametrize("name", RELEASED)
def test_a_tenth_of_a_millionth_is_more_than_the_tolerance_in_float64(name: str) -> None:
    # If the presets' epsilon were lost, the comparison above would see it.
    case = make_case(m=4, seed=79)
    steps = [call(build(name, case, **{**RELEASED[name], "target_epsilon": e}), case) for e in (1e-7, 0.0)]
    assert (steps[0].loss_by_peer - steps[1].loss_by_peer).abs().min() > 100 * TOLERANCE[torch.float64]


# What is refused: the value, the rule, the remedy.


def refused(name: str, case: Case, **options: Any) -> str:
    return refusal(lambda: methods.build(name, case.shape, **options))


@pytest.mark.parametrize(
    ("name", "option", "shown", "preset"),
    [
        *((n, {"target_epsilon": 0.001}, "target_epsilon 0.001", "1e-07") for n in RELEASED),
        # A value that is the usual one is refused too, since it was given.
        *((n, {"target_epsilon": 0.0}, "target_epsilon 0.0", "1e-07") for n in RELEASED),
        *((n, {"gradient": "none"}, "gradient 'none'", "'all'") for n in RELEASED if n != "okddip"),
        *((n, {"aggregate": "probabilities"}, "aggregate 'probabilities'", "'logits'") for n in RELEASED),
        ("dml", {"target": "pairwise"}, "target 'pairwise'", "'mean'"),
        ("okddip", {"include_self": False}, "include_self False", "True"),
        ("okddip", {"leader_target": "probabilities"}, "leader_target 'probabilities'", "'logits'"),
        ("okddip", {"gradient": "attention"}, "gradient 'attention'", "'all'"),
        ("okddip", {"gradient": "none"}, "gradient 'none'", "'all'"),
    ],
    ids=str,
)
def test_another_value_than_the_preset_s_is_refused(name: str, option: dict, shown: str, preset: str) -> None:
    said = refused(name, make_case(m=4), preset="released", **option)
    assert said == f"{shown} with preset 'released', which sets it to {preset}: leave one of them out."


def test_dml_averages_no_logits_where_it_averages_nothing() -> None:
    for options in ({}, {"target": "pairwise"}):
        said = refused("dml", make_case(), aggregate="logits", **options)
        assert said == "aggregate 'logits' with target 'pairwise', which averages nothing: add target='mean'."


@pytest.mark.parametrize("name", RELEASED)
def test_wrong_values_are_refused(name: str) -> None:
    case = make_case(m=4)
    known = "'attention', 'all', 'none'" if name == "okddip" else "'none', 'all'"
    assert refused(name, case, preset="paper") == "preset 'paper': choose one of None, 'released'."
    assert refused(name, case, aggregate="logit") == "aggregate 'logit': choose one of 'probabilities', 'logits'."
    assert refused(name, case, gradient="some") == f"gradient 'some': choose one of {known}."
    for value in (-0.001, float("inf"), float("nan")):
        said = refused(name, case, target_epsilon=value)
        assert said == f"target_epsilon {value}: it must be 0 or more, and finite."


@pytest.mark.parametrize("name", ["dml", "cl_ilr", "clnn", "one"])
def test_only_okddip_has_an_attention_to_let_gradient_through(name: str) -> None:
    with pytest.raises(UserError, match=r"gradient 'attention': choose one of 'none', 'all'\."):
        methods.build(name, make_case().shape, gradient="attention")
