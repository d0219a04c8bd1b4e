"""A setting that nothing reads is named before training; whatever is read, or is a default, is not."""

import dataclasses
import warnings

import pytest

from codistill.config import Config, OptimConfig, recipe_config
from codistill.data import AugmentPolicy, load
from codistill.data.drawn import DrawnImages
from codistill.training.build import build_session
from codistill.training.dry_run import dry_run
from codistill.training.unread import warn_of_unread
from wide_pictures import write_wide

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
        {"executor": "loop", "memory_limit": 4.0},
        "memory_limit 4.0 has no effect: only the choice of auto reads it, and the executor is loop",
    ),
]


def said(config, train=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unread(config, train)
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
        {"optim": OptimConfig(schedule="cosine", milestones=())},
        {"executor": "auto", "memory_limit": 4.0},
    ],
)
def test_a_setting_that_is_read_or_a_default_is_not_named(settings):
    assert said(Config(**settings)) == []


def test_the_size_of_crops_counts_only_where_images_are_decoded_in_every_step(digits, tmp_path):
    config = Config(augment=AugmentPolicy(crop_min_area=0.5))
    files = load("image_folder", write_wide(tmp_path / "pictures", 4), image_size=8, memory=0).train
    text = "augment.crop_min_area 0.5 has no effect: "
    assert said(config) == said(config, files) == []
    assert said(config, digits.train) == [
        text + "only images that are decoded in every step are cropped so (--data-memory)"
    ]
    drawn = DrawnImages(files.read, files.index_N, files.labels_N, files.channels, files.size)
    assert said(config, drawn) == [text + "the Dataset draws its images itself"]


def test_a_recipes_own_settings_are_not_the_users():
    for optim in (COSINE, OptimConfig(schedule="cosine", milestones=(0.3, 0.6, 0.9))):
        assert said(recipe_config("kdcl", optim=optim)) == []
    other = recipe_config("kdcl", optim=OptimConfig(schedule="cosine", milestones=(0.4,)))
    assert said(other) == ["optim.milestones 0.4 has no effect: the schedule is cosine, which has no steps"]


def test_it_is_said_before_training_and_in_a_dry_run(quick):
    config = dataclasses.replace(quick, optim=OptimConfig(lr=0.1, schedule="cosine", gamma=0.5))
    with pytest.warns(UserWarning, match=r"optim\.gamma 0\.5 has no effect"):
        dry_run(config)
    with pytest.warns(UserWarning, match=r"optim\.gamma 0\.5 has no effect"), build_session(config):
        pass
