"""A setting that nothing reads is named before training; whatever is read, or is a default, is not."""

import dataclasses
import warnings

import pytest

from codistill.config import Config, OptimConfig, recipe_config
from codistill.data import AugmentPolicy
from codistill.training.build import build_session
from codistill.training.dry_run import dry_run
from codistill.training.unread import warn_of_unread

COSINE = OptimConfig(schedule="cosine")
CASES = [
    (
        {"optim": OptimConfig(schedule="cosine", milestones=(0.3, 0.6))},
        "optim.milestones 0.3 0.6 has no effect: the schedule is cosine, which has no steps",
    ),
    (
        {"optim": OptimConfig(schedule="constant", gamma=0.5)},
        "optim.gamma 0.5 has no effect: the schedule is constant, which has no steps",
    ),
    (
        {"augment": AugmentPolicy(randaugment_ops=3, policies=("standard", "cutout"))},
        "augment.randaugment_ops 3 has no effect: no policy names randaugment",
    ),
    (
        {"executor": "loop", "memory_limit": 4.0},
        "memory_limit 4.0 has no effect: the executor 'loop' does not choose by memory, only auto does",
    ),
]


def said(config, decoded=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unread(config, decoded)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("settings", "text"), CASES)
def test_a_setting_without_effect_is_named(settings, text):
    assert said(Config(**settings)) == [text]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optim": COSINE},
        {"optim": OptimConfig(milestones=(0.3, 0.6), gamma=0.5)},
        {"augment": AugmentPolicy(randaugment_magnitude=5, policies=("standard", "randaugment+cutout"))},
        {"executor": "auto", "memory_limit": 4.0},
    ],
)
def test_a_setting_that_is_read_or_a_default_is_not_named(settings):
    assert said(Config(**settings)) == []


def test_the_size_of_crops_counts_only_where_images_are_decoded_in_every_step():
    config = Config(augment=AugmentPolicy(crop_min_area=0.5))
    text = "augment.crop_min_area 0.5 has no effect: images in memory are padded and cropped (augment.crop_padding)"
    assert [said(config, decoded) for decoded in (None, True, False)] == [[], [], [text]]


def test_a_recipes_own_settings_are_not_the_users():
    recipe = recipe_config("kdcl", optim=OptimConfig(schedule="cosine", milestones=(0.3, 0.6, 0.9)))
    assert said(recipe) == []


def test_it_is_said_before_training_and_in_a_dry_run(quick):
    config = dataclasses.replace(quick, optim=OptimConfig(lr=0.1, schedule="cosine", gamma=0.5))
    with pytest.warns(UserWarning, match=r"optim\.gamma 0\.5 has no effect"):
        dry_run(config)
    with pytest.warns(UserWarning, match=r"optim\.gamma 0\.5 has no effect"), build_session(config):
        pass
