"""A study's numbers worked out by hand on made-up runs: values, differences, Holm, gain, the selected epoch."""

import json
import math

import pytest
from synthetic_runs import write_run

from codistill.rundir import read_run
from codistill.studies.catalog import find_study
from codistill.studies.paper import Printed
from codistill.studies.results import numbers
from codistill.studies.run_list import folder_stem, select
from codistill.studies.store import Store

TABLE7 = select(find_study("kdcl/table7", "smoke"), ["vanilla", "2_distill_1", "dml"])
VANILLA_32, VANILLA_16 = "vanilla, resnet32", "vanilla, wrn16_2"
DML = "dml, resnet32 + wrn16_2"
ERRORS = {VANILLA_32: (30.0, 31.0, 32.0), VANILLA_16: (28.0, 28.5, 29.0), DML: (26.85, 27.85, 28.25)}
"""Of three seeds; of DML the mean of four students, whose errors are this plus .15, .05, -.05 and -.15."""


def run_of(folder, label, seed, error, **more):
    return read_run(write_run(folder / f"{label}-{seed}", label, seed, test_error=error, **more))


def runs_of(folder, errors):
    """Variant -> its runs; a group is made of DML's four students, the rest of single networks."""
    return {
        name: [
            run_of(folder / f"{v}", "dml" if name == DML else "baseline", seed, error)
            for seed, error in enumerate(of_seeds)
        ]
        for v, (name, of_seeds) in enumerate(errors.items())
    }


def by_place(found):
    return {(n.row, n.column): n for n in found}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return by_place(numbers(TABLE7, runs_of(tmp_path_factory.mktemp("runs"), ERRORS)))


def test_values_are_the_accuracies_of_the_networks_of_a_row_in_the_last_epoch(found):
    assert found["vanilla", "resnet32"].values == pytest.approx({0: 70.0, 1: 69.0, 2: 68.0})
    assert found["dml", "resnet32"].values == pytest.approx({0: 73.0, 1: 72.0, 2: 71.6})
    assert found["dml", "wrn16_2"].values == pytest.approx({0: 73.1, 1: 72.1, 2: 71.7})
    assert found["2_distill_1", "resnet32"].values == {}
    assert found["2_distill_1", "resnet32"].ours is None
    assert found["vanilla", "resnet32"].metric == "accuracy"


def test_mean_deviation_and_interval_are_over_seeds_next_to_the_printed_number(found):
    number = found["vanilla", "resnet32"]
    assert number.ours.mean == pytest.approx(69.0)
    assert number.ours.std == pytest.approx(1.0)
    # Student's t at 97.5 % with two degrees of freedom is 4.30265.
    assert (number.ours.low, number.ours.high) == pytest.approx((69 - 4.30265 / 3**0.5, 69 + 4.30265 / 3**0.5))
    assert number.printed == Printed(69.9)
    assert number.off == pytest.approx(-0.9)
    assert found["2_distill_1", "resnet32"].off is None


def test_the_selected_epoch_has_a_number_of_its_own(found):
    # The made-up runs are 0.1 points worse in the epoch that validation selected.
    assert found["vanilla", "resnet32"].selected.mean == pytest.approx(68.9)
    assert found["dml", "wrn16_2"].selected.mean == pytest.approx(72.2)


def two_sided(t):
    """p of Student's t with two degrees of freedom, in closed form."""
    return 1 - t / math.sqrt(2 + t**2)


def test_differences_are_paired_by_seed_and_corrected_for_the_table(found):
    first, second = found["dml", "resnet32"], found["dml", "wrn16_2"]
    assert first.paired.difference.values == pytest.approx((3.0, 3.0, 3.6))
    assert second.paired.difference.values == pytest.approx((1.1, 0.6, 0.7))
    # Mean 3.2, deviation sqrt(.12); mean .8, deviation sqrt(.07).
    assert first.paired.effect == pytest.approx(3.2 / 0.12**0.5)
    assert first.paired.p == pytest.approx(two_sided(3.2 / 0.04**0.5))
    assert second.paired.p == pytest.approx(two_sided(0.8 * (3 / 0.07) ** 0.5))
    # Two of the table's numbers are tested: the smaller p counts twice.
    assert first.p_holm == pytest.approx(2 * first.paired.p)
    assert second.p_holm == pytest.approx(max(first.p_holm, second.paired.p))
    assert found["vanilla", "resnet32"].paired is None


def test_a_network_that_is_its_own_base_is_not_tested(found):
    # In "2 distill 1" the second network is the vanilla one.
    assert found["2_distill_1", "wrn16_2"].values == found["vanilla", "wrn16_2"].values
    assert found["2_distill_1", "wrn16_2"].paired is None
    assert found["2_distill_1", "wrn16_2"].p_holm is None


def test_gain_is_the_sum_over_the_networks_seed_by_seed(found):
    gain = found["dml", "gain"]
    assert gain.values == pytest.approx({0: 4.1, 1: 3.6, 2: 4.3})
    assert gain.ours.mean == pytest.approx(4.0)
    assert gain.metric == "gain"
    assert gain.printed == Printed(6.0)
    assert ("vanilla", "gain") not in found
    assert found["2_distill_1", "gain"].values == {}


def test_the_numbers_stand_row_by_row_with_the_gain_at_the_end(found):
    assert list(found) == [
        ("vanilla", "resnet32"), ("vanilla", "wrn16_2"), ("2_distill_1", "resnet32"), ("2_distill_1", "wrn16_2"),
        ("2_distill_1", "gain"), ("dml", "resnet32"), ("dml", "wrn16_2"), ("dml", "gain"),
    ]  # fmt: skip


def test_only_seeds_that_both_have_finished_are_compared(tmp_path):
    runs = runs_of(tmp_path, ERRORS)
    runs[VANILLA_32] = runs[VANILLA_32][1:]
    runs[DML][2] = run_of(tmp_path, "dml", 2, None, done=3)
    found = by_place(numbers(TABLE7, runs))
    assert found["dml", "resnet32"].values == pytest.approx({0: 73.0, 1: 72.0})
    assert found["dml", "resnet32"].paired.difference.values == pytest.approx((3.0,))
    assert found["dml", "resnet32"].paired.p is None
    assert found["dml", "gain"].values == pytest.approx({1: 3.6})


def test_a_method_with_a_leader_is_scored_by_it_and_others_by_the_mean_of_students(tmp_path):
    study = select(find_study("okddip/table2", "smoke"), ["resnet32"], ["dml", "okddip_branch"])
    runs = {
        "resnet32/dml": [run_of(tmp_path, "dml", 0, 26.0)],
        "resnet32/okddip_branch": [run_of(tmp_path, "okddip, branches", 0, 25.0)],
    }
    found = by_place(numbers(study, runs))
    assert found["resnet32", "dml"].values == pytest.approx({0: 26.0})
    assert found["resnet32", "okddip_branch"].values == pytest.approx({0: 24.85})  # the last of four students
    assert found["resnet32", "dml"].metric == "error"


def test_the_papers_ensembles_are_those_of_the_logits_and_other_ways_have_columns_of_ours(tmp_path):
    study = select(find_study("okddip/table4", "smoke"), ["resnet32"])
    one = write_run(tmp_path / "one", "dml", 0, test_error=25.0)
    record = json.loads((one / "summary.json").read_text())
    for weights, error in (("last", 23.5), ("selected", 23.7)):
        record[weights]["test"]["ensemble_own"] = record[weights]["test"]["ensemble"] | {"top1_error": error}
    (one / "summary.json").write_text(json.dumps(record))
    runs = {
        "resnet32/one": [read_run(one)],
        "resnet32/okddip_peers": [run_of(tmp_path, "okddip, branches", 0, 25.0)],
        "resnet32/ind": [run_of(tmp_path, "ind", 0, 26.0)],
        "resnet32/ind_networks": [run_of(tmp_path, "ind", 1, 27.0)],
    }
    found = {column: n for (_, column), n in by_place(numbers(study, runs)).items()}
    # Of made-up runs the ensemble of the logits is .38 below the mean of the students, that of probabilities .4.
    errors = {
        "one": 24.62, "one_softmax": 24.6, "one_gate": 23.5, "okddip_branch": 24.62, "okddip_branch_softmax": 24.6,
        "ind": 25.62, "ind_softmax": 25.6,
    }  # fmt: skip
    assert {column: found[column].values[0] for column in errors} == pytest.approx(errors)
    assert found["ind_networks"].values == pytest.approx({1: 26.62})
    assert found["one_gate"].selected.mean == 23.7
    assert found["one"].printed == Printed(24.90)
    assert found["ind"].printed == Printed(23.74)
    ours = [column for column in found if column.endswith(("_softmax", "_gate"))]
    assert {found[column].printed for column in (*ours, "ind_networks")} == {None}
    # The printed columns are compared with individual branches; the other scores of the same runs are not tested.
    assert found["one"].paired.difference.values == pytest.approx((-1.0,))
    assert {found[column].paired for column in (*ours, "ind")} == {None}


def test_top5_and_the_parameters_in_training_have_their_own_units(tmp_path):
    study = select(find_study("kdcl/table3", "smoke"), ["vanilla", "kdcl_resnet50"])
    group = "kdcl_minlogit, resnet50 + resnet18"
    runs = {
        "vanilla, resnet18": [run_of(tmp_path, "baseline", 0, 30.0)],
        group: [run_of(tmp_path, "dml", 0, 24.0)],
    }
    found = by_place(numbers(study, runs))
    assert found["vanilla", "top5"].values == pytest.approx({0: 97.5})  # a twelfth of the error
    assert found["kdcl_resnet50", "top1"].values == pytest.approx({0: 75.95})  # the second of four students
    parameters = found["kdcl_resnet50", "params_m"]
    assert parameters.values == pytest.approx({0: 4 * 78042 / 1e6})
    assert (parameters.metric, parameters.printed, parameters.paired) == ("parameters", Printed(37.2), None)


def test_runs_are_found_by_the_name_of_their_folder(tmp_path):
    stem = folder_stem(TABLE7, VANILLA_32)
    for seed in (10, 2, 0):
        write_run(tmp_path / "runs" / f"{stem}-seed{seed}", "baseline", seed)
    write_run(tmp_path / "runs" / "digits-other-seed0", "baseline", 0)
    (tmp_path / "runs" / f"{stem}-seed1").mkdir()  # a failed run has no files in its folder
    assert [run.seed for run in Store(tmp_path).runs(TABLE7)[VANILLA_32]] == [0, 2, 10]
    assert [run.seed for run in Store(tmp_path, seeds=3).runs(TABLE7)[VANILLA_32]] == [0, 2]
    assert Store(tmp_path).runs(TABLE7)[DML] == []
    places = Store(tmp_path).places([TABLE7])
    assert sorted(places["kdcl/table7", "vanilla", "resnet32"].values) == [0, 2, 10]
