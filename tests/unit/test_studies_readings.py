"""What the papers leave open is one choice for a whole table: OKDDip's reading, KDCL's unstated lengths."""

import dataclasses
from pathlib import Path

import pytest

from codistill import methods
from codistill.studies import kdcl
from codistill.studies.catalog import STUDIES, find_study, studies_of_paper
from codistill.studies.profiles import PROFILES
from codistill.studies.run_list import folder_stem, make_run_list, select
from codistill.types import GroupShape
from refusals import refusal

OKDDIP = [name for name in STUDIES if name.startswith("okddip/")]
KDCL = [name for name in STUDIES if name.startswith("kdcl/")]
MOBILENETS = ("mobilenet_v2", "mobilenet_v2_x0.5")


def configs(name, reading="slides", profile="paper"):
    """Variant -> its configuration."""
    return {v: variant.config for v, variant in find_study(name, profile, reading).variants.items()}


def stems(study):
    return {name: folder_stem(study, name) for name in study.variants}


def built(config):
    """The method of a configuration, for a small group of its size."""
    shape = GroupShape(config.peers, 10, (8,) * config.peers, 8, config.group == "branches")
    return methods.find(config.method)(shape, **config.method_options)


@pytest.mark.parametrize("reading", ["slides", "released"])
@pytest.mark.parametrize("name", ["okddip/table1", "okddip/table2", "okddip/table4"])
def test_ind_are_individual_branches_and_ind_networks_independent_networks_of_ours(name, reading):
    study = find_study(name, "paper", reading)
    for row in study.rows:
        branches, networks = (study.variants[f"{row}/{column}"].config for column in ("ind", "ind_networks"))
        assert (branches.method, branches.group, branches.peers) == ("ind", "branches", 4)
        assert (networks.method, networks.group, networks.peers) == ("ind", "networks", 4)
        assert branches.label != networks.label
    assert any("ind_networks are independent networks, a column of ours" in choice for choice in study.choices)


@pytest.mark.parametrize("name", OKDDIP)
def test_the_slides_reading_has_a_peer_attend_to_itself_and_dml_learn_from_the_mean_at_3(name):
    for variant, config in configs(name).items():
        options = {k: v for k, v in config.method_options.items() if k != "ablation"}
        expected = {"okddip": {"include_self": True}, "dml": {"target": "mean", "temperature": 3.0}}
        assert options == expected.get(config.method, {}), variant
        assert (config.initialisation, config.last_batch) == ("usual", "drop")


@pytest.mark.parametrize("name", OKDDIP)
def test_the_released_reading_sets_every_column_of_a_table_alike(name):
    found = configs(name, "released")
    for variant, config in found.items():
        assert (config.initialisation, config.last_batch) == ("released", "keep"), variant
        learns = config.method in ("dml", "cl_ilr", "one", "okddip")
        assert config.method_options.get("preset") == ("released" if learns else None), variant
        assert config.method_options.get("include_self") == (True if config.method == "okddip" else None)
        vgg = variant.startswith("vgg16") and config.method == "okddip"
        assert config.method_options.get("projection_init") == (0.01 if vgg else None), variant
    # A reading changes how the same variants are trained, not which variants there are.
    assert found.keys() == configs(name).keys()
    assert {v: c.peers for v, c in found.items()} == {v: c.peers for v, c in configs(name).items()}


def test_the_released_presets_are_what_the_methods_know():
    for config in configs("okddip/table2", "released").values():
        if config.method in ("dml", "cl_ilr", "one", "okddip"):
            built(config)
    dml = built(configs("okddip/table2", "released")["resnet32/dml"])
    assert (dml.temperature, dml.pairwise) == (3.0, False)
    okddip = built(configs("okddip/table2", "slides")["resnet32/okddip_branch"])
    assert okddip.include_self


def test_no_run_of_one_reading_counts_in_the_other():
    for name in OKDDIP:
        slides, released = (set(stems(find_study(name, "paper", r)).values()) for r in ("slides", "released"))
        assert not slides & released


def test_a_claim_is_judged_by_numbers_of_one_reading():
    study = select(find_study("okddip/table2", "cpu", "released"), ["resnet32"])
    whole = studies_of_paper(study)
    assert [s.name for s in whole] == OKDDIP
    assert {s.reading for s in whole} == {"released"}
    assert stems(whole[1]).items() >= stems(study).items()


def test_a_report_of_another_choice_has_a_folder_of_its_own():
    assert find_study("okddip/table2", "cpu").folder == "okddip-table2"
    assert find_study("okddip/table2", "cpu", "released").folder == "okddip-table2-released"
    assert find_study("kdcl/table5", "cpu").folder == "kdcl-table5"
    assert find_study("kdcl/table5", "cpu", unclear_epochs=90).folder == "kdcl-table5-unclear-epochs-90"


@pytest.mark.parametrize("name", KDCL)
def test_kdcls_studies_ignore_the_reading_and_okddips_the_unclear_lengths(name):
    assert find_study(name, "cpu", "released") == find_study(name, "cpu")
    assert find_study(name, "cpu").reading is None
    assert find_study("okddip/table2", "cpu", "slides", 7) == find_study("okddip/table2", "cpu")


def test_an_unknown_reading_or_no_epochs_are_refused():
    assert (
        refusal(find_study, "okddip/table2", "cpu", "relased") == "unknown reading 'relased': did you mean 'released'?"
    )
    assert refusal(find_study, "kdcl/table5", "cpu", "slides", 0).startswith("unclear_epochs 0: it must be 1 or more")


@pytest.mark.parametrize("reading", ["slides", "released"])
def test_the_ablation_without_a_leader_trains_three_peers_and_the_ensemble_of_table_4_four(reading):
    ablation = configs("okddip/table5", reading)["resnet32/no_two_level"]
    ensemble = configs("okddip/table4", reading)["resnet32/okddip_peers"]
    assert (ablation.peers, ensemble.peers) == (3, 4)
    assert ablation.method_options == ensemble.method_options
    assert ablation.method_options["ablation"] == "no_two_level"
    assert {c.peers for v, c in configs("okddip/table5", reading).items() if "no_two_level" not in v} == {4}
    choices = find_study("okddip/table5", "paper", reading).choices
    assert any("no_two_level trains one student fewer" in choice for choice in choices)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_unclear_lengths_are_those_of_table_5_and_of_mobilenets_without_a_star(profile):
    changed = {}
    for name in KDCL:
        usual, chosen = (find_study(name, profile, "slides", epochs) for epochs in (None, 7))
        for variant in usual.variants:
            before, after = usual.variants[variant].config, chosen.variants[variant].config
            assert dataclasses.replace(after, epochs=before.epochs) == before
            if after.epochs != before.epochs:
                assert after.epochs == 7
                changed.setdefault(name, []).append(variant)
    pair = " + ".join(MOBILENETS)
    alone = [f"vanilla, {network}" for network in MOBILENETS]
    assert changed == {
        "kdcl/table4": [*alone, f"kdcl_linear, {pair}", f"kdcl_minlogit, {pair}"],
        "kdcl/table5": ["vanilla, resnet18", *(f"m = {m}, resnet18" for m in (2, 3, 4, 5))],
        "kdcl/table6": alone,
    }
    assert changed.keys() == kdcl.UNSTATED.keys()


def test_table_5_is_the_run_of_other_tables_only_without_a_length_of_its_own():
    def single(epochs):
        studies = [find_study(f"kdcl/table{n}", "paper", "slides", epochs) for n in (2, 5)]
        listed = make_run_list(studies, 1, Path())
        return {listed.folder(study.name, "vanilla, resnet18", 0) for study in studies}

    assert len(single(None)) == 1
    assert len(single(90)) == 2


def test_reports_say_which_lengths_the_slides_leave_open():
    for name in ("kdcl/table4", "kdcl/table5", "kdcl/table6"):
        (usual,) = (c for c in find_study(name, "paper").choices if c.startswith("Unclear on the slides"))
        assert usual.endswith("Here they train the full 200 epochs; --unclear-epochs sets another length.")
        (chosen,) = (c for c in find_study(name, "paper", "slides", 90).choices if c.startswith("Unclear"))
        assert chosen.endswith("Here they train 90 epochs (--unclear-epochs) instead of 200.")
    assert "70.1 here and 71.2" in " ".join(find_study("kdcl/table5", "paper").choices)
    assert "the pair of them" in " ".join(find_study("kdcl/table4", "paper").choices)
