"""Which run directories a study takes for the runs that it is asked for."""

import dataclasses
from pathlib import Path

import pytest

from codistill.data import AugmentPolicy
from codistill.studies.one_run import same_run
from codistill.training import Config, OptimConfig
from codistill.training.check import check_config

WANTED = Config(
    method="kd", model=("resnet8_tiny",), peers=1, data="digits", device="cpu",
    teachers=("studies/runs/teacher-seed0",), out=Path("studies/runs/pupil-seed0"),
)  # fmt: skip


def found(**changes):
    """The configuration in the directory of a run: defaults are filled in."""
    config = dataclasses.replace(check_config(WANTED), epochs=40, augment=AugmentPolicy(crop_padding=1, flip=False))
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"out": Path("elsewhere")}, {"label": "renamed"}, {"executor": "fused"}, {"threads": 3}, {"workers": 2},
        {"data_dir": Path("x")}, {"teachers": ("moved/runs/teacher-seed0",)}, {"device": "cuda:1", "amp": "bf16"},
    ],
)  # fmt: skip
def test_where_and_how_a_run_was_trained_does_not_matter(changes):
    assert same_run(found(**changes), WANTED)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1}, {"batch_size": 64}, {"optim": OptimConfig(lr=0.2)}, {"method_options": {"temperature": 2.0}},
        {"teachers": ("studies/runs/teacher-seed1",)}, {"amp": "bf16"}, {"data_memory": 0.0},
    ],
)  # fmt: skip
def test_another_seed_or_experiment_is_another_run(changes):
    assert not same_run(found(**changes), WANTED)


def test_what_is_asked_for_explicitly_is_compared():
    assert not same_run(found(), dataclasses.replace(WANTED, epochs=41))
    assert same_run(found(), dataclasses.replace(WANTED, epochs=40))
    assert not same_run(found(), dataclasses.replace(WANTED, augment=AugmentPolicy(flip=True)))
