"""Loss, parts and gradients of every method but okddip against the slow reference, on random inputs."""

from __future__ import annotations

import pytest
import reference
import reference_targets
import torch
from harness import COLLABORATING, Case, build, call, compare, make_case, rows_of

DTYPES = [torch.float64, torch.float32]
NAMES = ["ind", "kd", *(n for n in COLLABORATING if n != "okddip")]
SIZES = [1, 2, 3, 4, 6]
SINGLE = {"baseline", "ind", "kd"}  # methods that have a meaning for one student


def case_for(name: str, **arguments) -> Case:
    return make_case(teachers=1 if name == "kd" else 0, **arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("C", [2, 5, 11])
@pytest.mark.parametrize(("name", "m"), [(n, m) for n in NAMES for m in SIZES if m > 1 or n in SINGLE])
def test_default_options_agree(name: str, m: int, C: int, dtype: torch.dtype) -> None:
    for seed in (0, 1):
        compare(name, case_for(name, m=m, C=C, seed=seed, dtype=dtype, B=3 if m < 6 else 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("C", [2, 5, 11])
def test_baseline_agrees(C: int, dtype: torch.dtype) -> None:
    for seed in range(3):
        compare("baseline", make_case(m=1, C=C, seed=seed, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "ind"])
def test_temperatures_agree(name: str, temperature: float, dtype: torch.dtype) -> None:
    compare(name, case_for(name, seed=2, dtype=dtype), temperature=temperature)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.5])
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("kd")])
def test_weights_agree(name: str, weight: float) -> None:
    compare(name, case_for(name, seed=3), weight=weight)


@pytest.mark.parametrize("ramp_up", [0.0, 80 / 300, 1.0])
@pytest.mark.parametrize("fraction", [0.0, 0.05, 80 / 300, 0.9, 1.0])
@pytest.mark.parametrize("name", ["cl_ilr", "clnn", "one"])
def test_ramp_up_agrees(name: str, fraction: float, ramp_up: float) -> None:
    compare(name, make_case(seed=4, fraction=fraction), ramp_up=ramp_up)


@pytest.mark.parametrize("fraction", [0.0, 0.5])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("cl_ilr", "clnn", "one")])
def test_no_ramp_up_where_there_is_none(name: str, fraction: float) -> None:
    compare(name, case_for(name, seed=5, fraction=fraction))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_dml_mean_of_others_agrees(m: int, temperature: float, dtype: torch.dtype) -> None:
    compare("dml", make_case(m=m, seed=6, dtype=dtype), target="mean", temperature=temperature)


@pytest.mark.parametrize("teachers", [1, 2, 3])
@pytest.mark.parametrize("m", [1, 2])
def test_kd_with_several_teachers_agrees(m: int, teachers: int) -> None:
    compare("kd", make_case(m=m, seed=7, teachers=teachers))


@pytest.mark.parametrize("shares", [[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]], ids=str)
def test_kd_with_weighted_teachers_agrees(shares: list[float]) -> None:
    compare("kd", make_case(m=2, seed=7, teachers=3), teacher_weights=shares)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_agrees_in_evaluation_mode_with_running_statistics(dtype: torch.dtype) -> None:
    case = make_case(m=4, seed=8, dtype=dtype)
    method = build("one", case)
    for _ in range(3):
        call(method, case)
    compare("one", case, method=method.eval())


@pytest.mark.parametrize("positions", [(), (2,)], ids=["images", "dense"])
def test_ones_own_ensemble_is_the_gated_one(positions: tuple[int, ...]) -> None:
    case = make_case(m=3, seed=14, positions=positions)
    method = build("one", case)
    for _ in range(3):
        call(method, case)
    statistics = torch.stack([method.gate.norm.running_mean, method.gate.norm.running_var])
    found = method.eval().own_ensemble(case.outputs)
    gate = [method.gate.linear.weight, method.gate.norm.weight, method.gate.norm.bias, method.gate.norm.eps]
    gates = reference.gate_of_one(list(case.trunk), *gate, statistics)
    assert found.shape == case.logits.shape[1:]
    for b in range(len(found)):
        expected = sum(gates[b][p] * case.logits[p, b] for p in range(3))
        assert torch.allclose(found[b], expected, rtol=0, atol=1e-12)


def test_one_keeps_running_statistics_in_training_only() -> None:
    case = make_case(m=3, seed=9)
    method = build("one", case)
    raw_BP = case.trunk @ method.gate.linear.weight.T
    call(method.eval(), case)
    assert torch.equal(method.gate.norm.running_mean, torch.zeros(3, dtype=torch.float64))
    call(method.train(), case)
    assert torch.allclose(method.gate.norm.running_mean, 0.1 * raw_BP.mean(0), rtol=1e-12)


@pytest.mark.parametrize("weights", [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75]], ids=str)
def test_kdcl_general_uses_its_weights(weights: list[float]) -> None:
    case = make_case(m=3, seed=10)
    method = build("kdcl_general", case)
    assert torch.allclose(method.weights_P, torch.full_like(method.weights_P, 1 / 3))
    method.weights_P.copy_(torch.tensor(weights))
    compare("kdcl_general", case, method=method)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("C", [2, 5, 11])
def test_kdcl_linear_is_near_the_loss_of_the_references_own_minimum(C: int, m: int) -> None:
    # A gap of 1e-6 in a flat objective moves the target by its root: hence the tolerance.
    case = make_case(m=m, C=C, seed=12)
    x = rows_of(case, case.leaves())
    expected = reference.kdcl(x.z, x.y, x.r, reference_targets.linear(x.z, x.y), 2.0, 1.0)
    ours = call(build("kdcl_linear", case), case)
    assert ours.loss.item() == pytest.approx(expected.loss.item(), abs=1e-3)
    assert ours.parts["kd"].item() == pytest.approx(expected.parts["kd"].item(), abs=1e-3)


@pytest.mark.parametrize("m", [2, 4])
def test_kdcl_linear_with_one_weight_for_the_batch_agrees(m: int) -> None:
    compare("kdcl_linear", make_case(m=m, seed=11), per_batch=True)


def test_kdcl_linear_with_one_weight_for_the_batch_leaves_ignored_rows_out() -> None:
    case = make_case(m=3, B=5, seed=13)
    case.labels[2] = case.ignore_index = -100
    compare("kdcl_linear", case, per_batch=True)
