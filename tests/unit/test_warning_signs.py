"""Signs that a run goes wrong: each in a sentence with a remedy, and none of a run that goes well."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from codistill.training.concerns import new_concerns
from codistill.training.metrics import EvaluationMeter
from codistill.training.warning_signs import Look, look_at, warning_signs

WELL = Look(
    done=0.5, training=5.0, validation=12.0, best=12.5, since=1, top1=12.0, images=100, guessing=75.0,
    classes=("ant", "bee", "cat", "dog"), confusion=[[22, 1, 1, 1]] * 4,
)  # fmt: skip


def signs(**changes):
    return warning_signs(dataclasses.replace(WELL, **changes))


def test_a_run_that_goes_well_has_no_signs():
    assert signs() == {}
    assert signs(best=None, since=0) == {}
    assert signs(confusion=None) == {}


def test_learning_that_does_not_begin_is_said_after_a_third_of_the_run():
    lost = {"training": 74.0, "validation": 74.0, "top1": 74.0, "confusion": None, "best": 74.0}
    assert signs(**lost, done=0.3) == {}
    text = signs(**lost, done=0.34)["nothing learned"]
    assert "after 34 % of the run the validation error is 74.0 %" in text
    assert "always naming one class has 75.0 %" in text
    assert "--optim.lr" in text
    # A training error that falls is another matter.
    assert "nothing learned" not in signs(**{**lost, "training": 60.0})
    # 64 % on 100 images is more than two standard errors from 75 %.
    assert "nothing learned" not in signs(**{**lost, "top1": 64.0})


def test_with_unequal_classes_chance_is_the_most_frequent_class():
    rare = {"training": 19.0, "top1": 20.0, "validation": 20.0, "best": 20.0, "images": 100}
    unequal = [[80, 0, 0, 0], [10, 0, 0, 0], [5, 0, 0, 0], [5, 0, 0, 0]]
    assert list(signs(**rare, confusion=unequal)) == ["nothing learned"]
    assert signs(**rare) == {}


def test_one_answer_for_nearly_everything_is_named_with_its_share():
    flood = [[1, 24, 0, 0], [0, 25, 0, 0], [0, 25, 0, 0], [2, 23, 0, 0]]
    text = signs(confusion=flood, training=30.0)["one class"]
    assert "97 % of the validation images are taken for 'bee', which is 25 % of them" in text
    assert "--sampler balanced" in text
    assert signs(confusion=flood, training=30.0, done=0.2) == {}
    # Where nearly all images are of that class, the answer is no wonder.
    assert "one class" not in signs(confusion=[[90, 2, 0, 0], [1, 7, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_what_was_learned_and_is_lost_again_is_divergence():
    text = signs(validation=50.0, top1=50.0, training=48.0, best=20.0, since=1)["diverging"]
    assert "the validation error is 50.0 %, and was 20.0 % the epoch before" in text
    assert "--optim.warmup-epochs" in text
    # Half of what had been learned is lost from 47.5 % on, in training too.
    assert signs(validation=47.0, training=48.0, best=20.0) == {}
    assert signs(validation=50.0, training=30.0, best=20.0) == {}
    assert signs(validation=74.0, training=74.0, best=70.0, done=0.1, top1=74.0) == {}


def test_memorised_training_images_with_a_rising_validation_error_are_overfitting():
    text = signs(training=0.4, validation=14.0, best=12.0, since=6)["overfitting"]
    assert "the training error is 0.40 % and the validation error has risen from 12.0 % to 14.0 %" in text
    assert "--patience" in text
    assert signs(training=1.0, validation=14.0, best=12.0, since=6) == {}
    assert signs(training=0.4, validation=13.1, best=12.0, since=6) == {}
    assert signs(training=0.4, validation=14.0, best=12.0, since=2) == {}


def all_taken_for_the_first():
    """Two students that name class 0 for all images, student 0 less surely."""
    meter = EvaluationMeter(2, 4, torch.device("cpu"))
    logits_PBC = torch.zeros(2, 40, 4)
    logits_PBC[0, :, 0], logits_PBC[1, :, 0] = 1.0, 4.0
    meter.update(logits_PBC, torch.arange(40) % 4)
    return meter.result(1)


def run(headline):
    task = SimpleNamespace(chance=lambda: 75.0, rank=lambda scores, which: (scores.score(which).top1_error, 0.0))
    method = SimpleNamespace(concerns=lambda diagnostics: [])
    return SimpleNamespace(
        executor=SimpleNamespace(method=method), dataset=SimpleNamespace(classes=("a", "b", "c", "d")), task=task,
        headline=headline, epoch=30, epochs=60, best={"epoch": 20, "error": 74.0, "nll": 1.0}, concerns={},
    )  # fmt: skip


@pytest.mark.parametrize(("headline", "training"), [("leader", 71.0), ("mean", 70.0)])
def test_what_is_looked_at_is_the_student_that_counts(headline, training):
    look = look_at(run(headline), (69.0, 71.0), all_taken_for_the_first())
    assert look.training == training
    assert (look.done, look.validation, look.best, look.since, look.images) == (0.5, 75.0, 74.0, 10, 40)
    assert look.confusion == ((10, 0, 0, 0),) * 4
    assert look.constant == 75.0


def test_a_sign_is_said_once_per_run():
    session, validation = run("mean"), all_taken_for_the_first()
    (said,) = new_concerns(session, (69.0, 71.0), {}, validation)
    assert "the training error is 70.0 %" in said
    assert session.concerns == {"nothing learned": {"epoch": 30, "text": said}}
    assert new_concerns(session, (69.0, 71.0), {}, validation) == ()
