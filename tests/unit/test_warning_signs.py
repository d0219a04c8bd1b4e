"""Signs that a run goes wrong: each in a sentence with a remedy, and none of a run that goes well."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from codistill import Config
from codistill.data import AugmentPolicy, ImageSet
from codistill.data.views import crop_and_flip
from codistill.peers import NetworkGroup
from codistill.training.concerns import new_concerns
from codistill.training.empty_views import empty_views
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
    nets = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)) for _ in range(2)]
    images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
    return SimpleNamespace(
        executor=SimpleNamespace(method=method, group=NetworkGroup(nets)), config=Config(),
        dataset=SimpleNamespace(classes=("a", "b", "c", "d"), train=images), task=task, headline=headline,
        epoch=30, epochs=60, best={"epoch": 20, "error": 74.0, "nll": 1.0}, concerns={},
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


def test_a_loss_far_above_that_of_guessing_with_the_error_of_guessing_is_said_at_once():
    exploded = {"top1": 75.0, "training": 75.0, "validation": 75.0, "best": None, "confusion": None}
    # A hundred times ln(4) is 138.6 nats.
    assert signs(**exploded, done=0.01, loss=138.0) == {}
    text = signs(**exploded, done=0.01, loss=139.0)["absurd loss"]
    assert "error is 75.0 %, as by guessing, with a loss of 139 nats, where guessing has 1.39" in text
    assert "a hundredth of --optim.lr" in text
    # One sentence about it is enough, and a network that is right may be as sure as it likes.
    assert list(signs(**exploded, done=0.9, loss=139.0)) == ["absurd loss"]
    assert signs(**{**exploded, "top1": 50.0}, done=0.01, loss=1e9) == {}


def test_the_loss_that_is_looked_at_is_that_of_the_student_that_counts():
    validation = all_taken_for_the_first()
    assert look_at(run("leader"), (69.0, 71.0), validation).loss == validation.leader.nll
    assert look_at(run("mean"), (69.0, 71.0), validation).loss == validation.mean.nll


@pytest.mark.parametrize(("weight", "said"), [(-1.1e6, 1), (0.9e6, 0), (float("nan"), 0)])
def test_a_weight_beyond_a_million_is_named(weight, said):
    session = run("mean")
    with torch.no_grad():
        session.executor.group.networks[1][2].weight[3, 0] = weight
    found = new_concerns(session, (69.0, 71.0), {}, all_taken_for_the_first())
    huge = [text for text in found if "weights up to" in text]
    assert len(huge) == said
    assert all(text.startswith("2.weight of student 1 has weights up to 1.1e+06: ") for text in huge)


def test_frozen_weights_may_be_as_they_are():
    session = run("mean")
    layer = session.executor.group.networks[0][2].requires_grad_(False)
    layer.weight.fill_(1e7)
    assert not any("weights up to" in t for t in new_concerns(session, (69.0, 71.0), {}, all_taken_for_the_first()))


def crops(padding, side=8, padded=True):
    return empty_views(AugmentPolicy(padding, False), side, side, padded)


def test_random_crops_beside_the_image_are_said_with_their_share():
    assert crops(7) == crops(0) == {}
    # Of the offsets -8 to 8, those at both ends leave nothing: 1 - (15 / 17)².
    assert "22 % of the random crops hold nothing of the image: augment.crop_padding 8" in crops(8)["empty crops"]
    assert "98 % of the random crops" in crops(60)["empty crops"]
    # Images in files are cropped without padding.
    assert crops(60, padded=False) == {}


def test_the_share_of_empty_crops_is_that_of_the_crops_themselves():
    pixels = torch.full((4000, 1, 8, 8), 255, dtype=torch.uint8)
    frames = crop_and_flip(pixels, AugmentPolicy(10, False), 1, torch.Generator().manual_seed(0))
    share = (frames.flatten(2).amax(2) == 0).float().mean().item()
    assert f"{100 * (1 - (15 / 21) ** 2):.0f} % of the random crops" in crops(10)["empty crops"]
    assert share == pytest.approx(1 - (15 / 21) ** 2, abs=0.03)


def test_squares_that_cover_the_whole_image_are_said_with_their_share():
    def cut(size, policies="cutout"):
        return empty_views(AugmentPolicy(0, False, policies, cutout_size=size), 8, 8, True)

    assert cut(None) == cut(8) == cut(16, "standard") == {}
    assert "covers 100 % of the images that get it whole: augment.cutout_size 16" in cut(16)["empty cutouts"]
    assert "covers 25 % of the images" in cut(11)["empty cutouts"]


def test_empty_views_are_a_concern_of_the_run():
    session = run("mean")
    session.config = Config(augment=AugmentPolicy(20, False))
    found = new_concerns(session, (69.0, 71.0), {}, all_taken_for_the_first())
    assert sum("of the random crops hold nothing" in text for text in found) == 1
