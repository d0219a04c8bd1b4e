"""What a run says about itself: an attention near the identity, a student that falls behind; each once."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from codistill import methods, models
from codistill.peers import NetworkGroup
from codistill.training import concerns
from codistill.training.concerns import new_concerns
from codistill.types import GroupShape

FOUR = GroupShape(4, 10, (16,) * 4)
ALIKE = (5.0, 5.0, 5.0, 5.0)


def session(name="okddip", epoch=30, **options):
    method = methods.build(name, FOUR, **options)
    return SimpleNamespace(executor=SimpleNamespace(method=method), epoch=epoch, epochs=60, concerns={})


def attending(diagonal):
    rest = (1 - diagonal) / 2
    attention = [[diagonal if a == b else rest for b in range(3)] for a in range(3)]
    return ALIKE, {"attention": attention}


def test_an_attention_near_the_identity_is_said_once_per_run():
    run = session()
    assert new_concerns(run, *attending(0.95)) == ()
    (said,) = new_concerns(run, *attending(0.951))
    assert said.startswith("okddip's attention is 0.95 on its diagonal: each auxiliary peer attends to itself")
    assert said.endswith("--set method_options.include_self=false prevents it")
    assert new_concerns(run, *attending(0.99)) == ()
    assert run.concerns["method 0"] == {"epoch": 30, "text": said}


def test_one_auxiliary_peer_has_only_itself_and_is_not_warned_of_again():
    method = methods.build("okddip", GroupShape(2, 10, (16, 16)))
    assert "okddip with 2 peers" in method.cautions()[0]
    assert method.concerns({"attention": [[1.0]]}) == []


def test_targets_without_a_certificate_are_said_once_per_run():
    run = session("kdcl_linear")
    assert new_concerns(run, ALIKE, {}) == ()
    assert new_concerns(run, ALIKE, {"uncertified": 0.0}) == ()
    (said,) = new_concerns(run, ALIKE, {"uncertified": 0.00123})
    assert said.startswith("kdcl_linear could not certify the targets of 0.0012 of the rows")
    assert "lower optim.lr" in said
    assert new_concerns(run, ALIKE, {"uncertified": 0.5}) == ()


@pytest.mark.parametrize(
    ("errors", "who"),
    [
        ((4.0, 5.0, 30.0, 6.0), [2]),
        ((4.0, 5.0, 14.9, 6.0), []),  # less than ten points above the others' median
        ((40.0, 41.0, 60.0, 42.0), []),  # less than twice the others' median
        ((2.0, 50.0, 3.0, 60.0), [1, 3]),
        ((50.0,), []),
    ],
)
def test_a_student_far_behind_the_others_is_named(errors, who):
    run = session("ind")
    said = new_concerns(run, errors, {})
    assert [int(text.split()[1]) for text in said] == who
    assert all("training error where the others have" in text and "lower optim.lr" in text for text in said)


def test_students_may_differ_early_in_the_run():
    assert new_concerns(session("ind", epoch=19), (4.0, 5.0, 90.0, 6.0), {}) == ()
    assert new_concerns(session("ind", epoch=20), (4.0, 5.0, 90.0, 6.0), {}) != ()


@pytest.mark.parametrize(
    ("network", "asked", "lag"),
    [("resnet8_tiny", "auto", True), ("resnet8_tiny", "on", False), ("plain", "auto", False)],
)
def test_a_gap_to_validation_may_be_batch_norms_unless_there_is_none_or_it_is_estimated(network, asked, lag):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net = plain if network == "plain" else models.build(network, 10, 1, torch.Generator().manual_seed(0))
    group = NetworkGroup([net])
    run = SimpleNamespace(
        executor=SimpleNamespace(group=group), config=SimpleNamespace(recalibrate_bn=asked), epoch=30, epochs=60,
        steps=46, task=SimpleNamespace(chance=lambda: 90.0),
    )  # fmt: skip
    found = concerns._at_chance(run, (40.0,), SimpleNamespace(peers=(SimpleNamespace(top1_error=85.0),)))
    text = found["at chance"]
    assert text.startswith("the error is 40.0 % in training and 85.0 % in validation, where guessing has 90.0 %: ")
    assert ("batch norm's statistics can lag" in text) == lag
    assert text.endswith("may differ in kind from the training ones, or the students only memorise")
