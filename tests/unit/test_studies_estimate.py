"""What a study takes, in multiply-accumulates: by hand for one small network, and equal to the group's own count."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from codistill.cli import main
from codistill.errors import UserError
from codistill.studies import listing
from codistill.studies.catalog import STUDIES, find_study
from codistill.studies.estimate import gpu_rate, study_macs
from codistill.studies.run_list import make_run_list, select
from codistill.studies.study import Entry, Study, Variant
from codistill.training import Config
from codistill.training.dry_run import dry_run as plan

STEM, LAYER1 = 1 * 12 * 9 * 64, 2 * 12 * 12 * 9 * 64
LAYER2 = 12 * 24 * 9 * 16 + 24 * 24 * 9 * 16 + 12 * 24 * 16
LAYER3 = 24 * 48 * 9 * 4 + 48 * 48 * 9 * 4 + 24 * 48 * 4
CLASSIFIER = 48 * 10
"""resnet8_tiny on grey digits of 8 × 8: one basic block per stage of 12, 24 and 48 channels, shortcuts by 1 × 1."""

ALONE = STEM + LAYER1 + LAYER2 + LAYER3 + CLASSIFIER
BASE = Config(
    method="baseline", model=("resnet8_tiny",), peers=1, data="digits", train_subset=200, epochs=7, batch_size=50
)


def study_of(**settings):
    """A study of one configuration."""
    variants = {"v": Variant("heading", dataclasses.replace(BASE, **settings))}
    return Study("okddip/table5", "smoke", "made up", "error", variants, (Entry("r", "c", "v"),))


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ({}, ALONE),
        ({"method": "dml", "peers": 3}, 3 * ALONE),
        ({"method": "okddip", "group": "branches", "peers": 4}, STEM + LAYER1 + LAYER2 + 4 * (LAYER3 + CLASSIFIER)),
        (
            {"method": "clnn", "group": "tree", "peers": None, "split": "layer2:2,layer3:3"},
            STEM + LAYER1 + 2 * LAYER2 + 6 * (LAYER3 + CLASSIFIER),
        ),
    ],
    ids=["alone", "networks", "branches", "tree"],
)
def test_training_counts_three_forward_passes_of_every_image_through_the_group(settings, group):
    assert study_macs([study_of(**settings)], 1) == 3 * group * 200 * 7


def test_images_for_validation_are_not_trained_on():
    assert study_macs([study_of(train_subset=None, validation=0.5)], 1) == 3 * ALONE * 719 * 7


def test_what_studies_share_counts_once():
    study = find_study("okddip/table5", "smoke")
    assert study_macs([study], 3) == 3 * study_macs([study], 1)
    shared = select(find_study("okddip/table2", "smoke"), ["resnet32"], ["okddip_branch"])
    baseline = select(shared, methods=["baseline"])
    assert study_macs([study, shared], 1) == study_macs([study], 1) + study_macs([baseline], 1)


VARIANTS = [
    ("okddip/table2", "vgg16/baseline"), ("okddip/table1", "densenet40_12/okddip_branch"),
    ("okddip/table2", "resnet110/cl_ilr"), ("okddip/table1", "wrn20_8/dml"), ("kdcl/table7", "clnn, resnet32"),
    ("kdcl/table2", "one, resnet18"), ("kdcl/table7", "kdcl_linear_icl, resnet32 + wrn16_2"),
    ("kdcl/table6", "kdcl, resnet50 + resnet18 + mobilenet_v2 + mobilenet_v2_x0.5"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[variant for _, variant in VARIANTS])
def test_the_estimate_is_what_the_group_itself_counts(name, variant):
    study = find_study(name, "smoke")
    of_one = dataclasses.replace(study, variants={variant: study.variants[variant]})
    (run,) = make_run_list([of_one], 1, Path()).runs
    steps = run.config.train_subset / run.config.batch_size * run.config.epochs
    assert study_macs([of_one], 1) == plan(run.config).step_macs * steps


def test_a_gpu_reaches_a_share_of_its_published_peak():
    assert gpu_rate("a100") == pytest.approx(0.3 * 312e12 / 2)
    with pytest.raises(UserError, match=r"^unknown GPU 'a1000': did you mean 'a100'") as caught:
        gpu_rate("a1000")
    assert "\n" not in str(caught.value)


RATES = {"smoke": 1e9, "cpu": 2e9, "gpu": 4e9, "paper": 4e9}


def test_the_list_of_studies_has_every_study_with_hours_by_profile(monkeypatch, capsys):
    monkeypatch.setattr(listing, "measured_rate", lambda profile: RATES[profile])
    main(["study", "list", "okddip/table5", "kdcl/table7", "--gpu", "h100", "--json"])
    ablations, table7 = json.loads(capsys.readouterr().out)
    assert (ablations["name"], table7["name"]) == ("okddip/table5", "kdcl/table7")
    assert table7["columns"] == ["resnet32", "wrn16_2", "gain"]
    assert ablations["runs"] == {"smoke": 12, "cpu": 18, "gpu": 18, "paper": 18}
    macs = study_macs([find_study("okddip/table5", "cpu")], 3)
    assert ablations["macs"]["cpu"] == macs
    assert ablations["hours"]["cpu"] == pytest.approx(macs / 2e9 / 3600)
    assert ablations["gpu_hours"] == pytest.approx(ablations["macs"]["paper"] / (0.3 * 989e12 / 2) / 3600)
    assert ablations["gpu_profile_hours"] == pytest.approx(ablations["macs"]["gpu"] / (0.3 * 989e12 / 2) / 3600)
    main(["study", "list", "okddip", "--gpu", "h100"])
    screen = capsys.readouterr().out
    assert [line.split()[0] for line in screen.splitlines() if line.startswith(("okddip", "kdcl"))] == [
        name for name in STUDIES if name.startswith("okddip/")
    ]
    assert "Estimates of training alone" in screen
    assert "e+" not in screen
    assert re.search(
        r"smoke 12 runs, \d+(\.\d)? s of a CPU thread; cpu 18 runs, \d+(\.\d)? (h|min) of", " ".join(screen.split())
    )
    assert "30% of the published 989e12 operations per second of a h100" in screen
