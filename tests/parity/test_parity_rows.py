"""Dense predictions, ignored rows, sample weights and soft labels against the slow reference."""

from __future__ import annotations

import pytest
import torch
from harness import COLLABORATING, RELEASED, Case, compare, make_case

from codistill import targets

NAMES = ["ind", "kd", *COLLABORATING]


def case_for(name: str, B: int = 2, **arguments) -> Case:
    # Two peers of okddip that attend to each other only have nothing to choose: three.
    return make_case(m=4 if name == "okddip" else 3, B=B, teachers=1 if name == "kd" else 0, **arguments)


def compare_all(name: str, case: Case) -> None:
    """The defaults, and what averages logits or attends to itself."""
    compare(name, case)
    if name in RELEASED:
        compare(name, case, preset="released")
    if name == "okddip":
        compare(name, case, include_self=True)


@pytest.mark.parametrize("positions", [(3,), (2, 2)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_dense_predictions_agree(name: str, positions: tuple[int, ...]) -> None:
    compare_all(name, case_for(name, positions=positions, seed=20))


@pytest.mark.parametrize("ignored", [-100, 3])
@pytest.mark.parametrize("name", NAMES)
def test_ignored_rows_agree(name: str, ignored: int) -> None:
    case = case_for(name, positions=(3,), seed=21)
    case.labels[case.labels == 3] = 2
    case.labels[0, 1] = ignored
    case.labels[1, 2] = ignored
    case.ignore_index = ignored
    compare_all(name, case)


@pytest.mark.parametrize("name", NAMES)
def test_sample_weights_agree(name: str) -> None:
    case = case_for(name, B=4, seed=22)
    case.sample_weights = torch.tensor([0.5, 0.0, 2.0, 1.25], dtype=torch.float64)
    compare_all(name, case)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_every_position_agree(name: str) -> None:
    case = case_for(name, positions=(3,), seed=23)
    case.sample_weights = torch.tensor([[0.5, 0.0, 2.0], [1.25, 1.0, 3.0]], dtype=torch.float64)
    compare_all(name, case)


@pytest.mark.parametrize("name", ["ind", "kd", "dml", "cl_ilr", "clnn", "one", "okddip", "kdcl_naive", "kdcl_general"])
def test_soft_labels_agree(name: str) -> None:
    case = case_for(name, B=4, seed=24)
    smooth = torch.nn.functional.one_hot(case.labels, 5).double() * 0.9 + 0.02
    smooth[1] = torch.tensor([0.3, 0.7, 0.0, 0.0, 0.0])
    case.labels = smooth
    compare_all(name, case)


def test_kdcl_naive_chooses_its_teacher_by_the_whole_soft_label() -> None:
    case = make_case(m=3, B=12, seed=25)
    mixed = torch.nn.functional.one_hot(case.labels, 5).double()
    case.labels = 0.55 * mixed + 0.45 * mixed.roll(1, 0)
    logits = case.logits.detach()
    by_soft, by_hard = targets.naive(logits, case.labels), targets.naive(logits, case.labels.argmax(-1))
    assert not torch.equal(by_soft, by_hard), "a case in which the second class has no say shows nothing"
    compare("kdcl_naive", case)
