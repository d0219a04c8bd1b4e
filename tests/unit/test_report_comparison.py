"""Which runs make a row, and what the row says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scipy import stats
from synthetic_runs import INPUT, write_run

from codistill.errors import UserError
from codistill.reports import compare, find_runs, read_run, to_markdown
from codistill.reports.details import commands


def _write(root: Path, label: str, errors: dict[int, float], **options) -> None:
    for seed, error in errors.items():
        write_run(root / f"{label}-{options.get('data', 'digits')}-{seed}", label, seed, test_error=error, **options)


def test_seeds_of_one_label_are_one_row_with_the_baseline_first(tmp_path: Path) -> None:
    _write(tmp_path / "a", "dml", {0: 3.0, 1: 4.0, 2: 5.0})
    _write(tmp_path / "b", "baseline", {0: 6.0, 1: 6.5, 2: 7.9})
    table = compare(find_runs([tmp_path])).tables[0]
    assert [row.name for row in table.rows] == ["baseline", "dml"]
    dml = table.rows[1]
    assert [run.seed for run in dml.runs] == [0, 1, 2]
    assert dml.error is not None
    assert (dml.error.values, dml.error.mean, dml.error.std) == ((3.0, 4.0, 5.0), 4.0, 1.0)
    assert dml.error_selected is not None
    assert dml.error_selected.mean == pytest.approx(4.1)
    assert dml.ensemble is not None
    assert dml.ensemble.mean == pytest.approx(3.6)
    assert (dml.parameters, dml.headline, dml.few_seeds) == (78042, "mean", False)
    assert dml.seconds is not None
    assert dml.seconds.mean == pytest.approx(0.5 * 6 * 3.9 + 0.3)


def test_the_headline_of_the_run_decides_between_leader_and_mean(tmp_path: Path) -> None:
    _write(tmp_path, "okddip, networks", {0: 3.0})
    row = compare(find_runs([tmp_path])).rows[0]
    assert row.headline == "leader"
    assert row.error is not None
    assert row.error.mean == pytest.approx(2.85)  # the leader lies half the spread of 0.3 below the mean


def test_a_single_network_has_no_ensemble(tmp_path: Path) -> None:
    _write(tmp_path, "baseline", {0: 6.0})
    row = compare(find_runs([tmp_path])).rows[0]
    assert (row.ensemble, row.ensemble_selected, row.paired) == (None, None, None)


def test_differences_are_taken_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    _write(tmp_path / "a", "baseline", {3: 6.0, 0: 6.5, 1: 7.9, 9: 20.0})
    _write(tmp_path / "b", "dml", {0: 6.0, 1: 6.9, 3: 5.8, 5: 0.0})
    row = compare(find_runs([tmp_path])).rows[1]
    assert row.paired is not None
    assert row.paired.difference.values == pytest.approx((-0.5, -1.0, -0.2))
    assert row.paired.p == pytest.approx(stats.ttest_rel([6.0, 6.9, 5.8], [6.5, 7.9, 6.0]).pvalue)
    assert row.baseline == "baseline"


def test_p_values_are_corrected_within_their_table(tmp_path: Path) -> None:
    _write(tmp_path / "a", "baseline", {0: 6.0, 1: 6.5, 2: 7.9})
    _write(tmp_path / "b", "dml", {0: 5.0, 1: 5.4, 2: 6.8})
    _write(tmp_path / "c", "ind", {0: 6.1, 1: 6.2, 2: 7.9})
    _write(tmp_path / "d", "baseline", {0: 6.0, 1: 6.5, 2: 7.9}, data="glyphs")
    _write(tmp_path / "e", "dml", {0: 5.0, 1: 5.4, 2: 6.8}, data="glyphs")
    digits, glyphs = compare(find_runs([tmp_path])).tables
    small, large, only = digits.rows[1], digits.rows[2], glyphs.rows[1]
    assert small.paired is not None
    assert large.paired is not None
    assert only.paired is not None
    assert small.p_holm == pytest.approx(2 * small.paired.p)  # type: ignore[operator]
    assert large.p_holm == pytest.approx(large.paired.p)
    assert only.p_holm == pytest.approx(only.paired.p)


def test_data_sets_are_separate_tables(tmp_path: Path) -> None:
    _write(tmp_path, "dml", {0: 3.0})
    _write(tmp_path, "dml", {0: 8.0}, data="glyphs")
    tables = compare(find_runs([tmp_path])).tables
    assert [(table.data, len(table.rows)) for table in tables] == [("digits", 1), ("glyphs", 1)]


def test_networks_are_separate_rows_each_with_its_own_baseline(tmp_path: Path) -> None:
    for models, shift in ((("resnet8",), 0.0), (("resnet20",), -2.0)):
        _write(tmp_path / f"{models[0]}-b", "baseline", {0: 6 + shift, 1: 7 + shift}, models=models)
        _write(tmp_path / f"{models[0]}-d", "dml", {0: 5 + shift, 1: 5.5 + shift}, models=models)
    _write(tmp_path / "mixed", "dml", {0: 3.0, 1: 3.5}, models=("resnet8", "resnet20"))
    rows = {row.name: row for row in compare(find_runs([tmp_path])).rows}
    assert rows["dml, resnet20"].baseline == "baseline, resnet20"
    assert rows["dml, resnet20"].paired.difference.mean == pytest.approx(-1.25)
    assert rows["dml, resnet8 + resnet20"].paired is None


def test_fewer_than_three_finished_seeds_are_marked(tmp_path: Path) -> None:
    _write(tmp_path, "dml", {0: 3.0, 1: 4.0})
    write_run(tmp_path / "going", "dml", 2, done=1)
    row = compare(find_runs([tmp_path])).rows[0]
    assert row.few_seeds
    assert (len(row.runs), len(row.finished)) == (3, 2)


def test_a_row_without_a_finished_seed_has_no_numbers(tmp_path: Path) -> None:
    write_run(tmp_path / "going", "dml", done=1)
    row = compare(find_runs([tmp_path])).rows[0]
    assert (row.error, row.headline, row.seconds, row.parameters, row.peers) == (None, None, None, None, 4)


def test_variants_with_one_label_are_separate_rows_named_by_their_settings(tmp_path: Path) -> None:
    for lr in (0.1, 0.05):
        for seed in (0, 1):
            write_run(tmp_path / f"lr{lr}-{seed}", "dml", seed, config={"optim": {"lr": lr, "momentum": 0.9}})
    rows = compare(find_runs([tmp_path])).rows
    assert [(row.name, len(row.runs)) for row in rows] == [("dml, optim.lr 0.1", 2), ("dml, optim.lr 0.05", 2)]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"epochs": 2}, {"epochs": 20}, ["epochs 2", "epochs 20"]),
        ({"train_subset": None}, {"train_subset": 99}, ["train_subset null", "train_subset 99"]),
        ({"amp": "off"}, {"amp": "bf16"}, ["amp off", "amp bf16"]),
        ({"teachers": ["x/big"]}, {"teachers": ["x/small"]}, ['teachers ["x/big"]', 'teachers ["x/small"]']),
        ({"method_options": {"temperature": 2.0}}, {"method_options": {}}, ["temperature 2", ""]),
        ({"method_options": {"seed": 1}}, {"method_options": {"seed": 2}}, ["seed 1", "seed 2"]),
    ],
)
def test_different_experiments_are_never_seeds_of_one_row(tmp_path: Path, one: dict, other: dict, names: list) -> None:
    for seed, config in enumerate((one, other)):
        write_run(tmp_path / str(seed), "dml", seed, epochs=config.get("epochs", 6), config=config)
    rows = compare(find_runs([tmp_path])).rows
    assert [row.name for row in rows] == [", ".join(filter(None, ("dml", name))) for name in names]
    assert [[run.seed for run in row.runs] for row in rows] == [[0], [1]]


def _input(folder: Path, **changes) -> None:
    data = {"training_images": 100, "test_images": 20, "labels_sha256": "ab" * 32} | changes
    (folder / "input.json").write_text(json.dumps(INPUT | {"data": data}))


def test_the_same_images_elsewhere_are_the_same_table_and_row(tmp_path: Path) -> None:
    for seed, folder in enumerate(["images", "/copy/of/them"]):
        _input(write_run(tmp_path / str(seed), "dml", seed, data="image_folder", config={"data_dir": folder}))
    tables = compare(find_runs([tmp_path])).tables
    assert [[row.name for row in table.rows] for table in tables] == [["dml"]]
    assert len(tables[0].rows[0].runs) == 2


def test_folders_of_older_runs_are_separate_tables(tmp_path: Path) -> None:
    for seed, folder in enumerate("ab"):
        write_run(tmp_path / folder, "dml", seed, data="image_folder", config={"data_dir": folder})
    tables = compare(find_runs([tmp_path])).tables
    assert [table.data for table in tables] == ["image_folder, data_dir a", "image_folder, data_dir b"]
    assert [[row.name for row in table.rows] for table in tables] == [["dml"], ["dml"]]


def test_data_sets_from_python_are_distinguished_by_their_images(tmp_path: Path) -> None:
    changes = {"a": {}, "b": {}, "more": {"training_images": 101}, "other": {"labels_sha256": "cd" * 32}}
    for seed, (name, change) in enumerate(changes.items()):
        _input(write_run(tmp_path / name, "dml", seed, data="own"), **change)
    write_run(tmp_path / "digits", "dml", 0)
    assert {table.data: [len(row.runs) for row in table.rows] for table in compare(find_runs([tmp_path])).tables} == {
        "own data, images 100 + 20, labels abababab": [2],
        "own data, images 101 + 20, labels abababab": [1],
        "own data, images 100 + 20, labels cdcdcdcd": [1],
        "digits": [1],
    }


def test_the_page_has_no_command_for_data_that_no_command_can_name(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "dml", 0, data="own")
    shown = commands(compare(find_runs([tmp_path])).tables[0])
    assert shown == f"# {tmp_path / 'a'}: trained on data from Python; give train(...) the same dataset=\n" + (
        "codistill report repeated"
    )


def test_how_and_where_a_run_is_trained_makes_no_separate_rows(tmp_path: Path) -> None:
    for seed in range(2):
        how = {"threads": 1 + seed, "executor": ("loop", "fused")[seed], "device": ("cpu", "cuda:1")[seed]}
        where = {"workers": seed, "download": bool(seed), "memory_limit": float(seed), "teachers": [f"r/t-seed{seed}"]}
        write_run(tmp_path / f"{seed}", "dml", seed, config=how | where)
    assert [(row.name, len(row.runs)) for row in compare(find_runs([tmp_path])).rows] == [("dml", 2)]


def test_a_whole_number_is_one_value_however_it_is_written(tmp_path: Path) -> None:
    for seed, temperature in enumerate((2, 2.0)):
        write_run(tmp_path / f"{seed}", "dml", seed, config={"method_options": {"temperature": temperature}})
    assert [len(row.runs) for row in compare(find_runs([tmp_path])).rows] == [2]


def test_one_experiment_run_in_two_ways_with_one_seed_is_two_rows(tmp_path: Path) -> None:
    for name in ("loop", "fused"):
        write_run(tmp_path / name, "dml", 0, config={"executor": name})
    rows = compare(find_runs([tmp_path])).rows
    assert {row.name for row in rows} == {"dml, executor loop", "dml, executor fused"}


def test_a_setting_that_an_older_version_did_not_write_makes_no_separate_rows(tmp_path: Path) -> None:
    write_run(tmp_path / "old", "dml", 0)
    write_run(tmp_path / "new", "dml", 1, config={"data_memory": 8.0})
    assert len(compare(find_runs([tmp_path])).rows) == 1


def _lengths(root: Path, method: str, *epochs: int) -> list:
    return [read_run(write_run(root / f"{method}{n}", method, test_error=float(n), epochs=n)) for n in epochs]


@pytest.mark.parametrize("turned", [False, True])
def test_the_baseline_has_the_same_data_and_length_in_any_order(tmp_path: Path, turned: bool) -> None:
    runs = [*_lengths(tmp_path, "baseline", 4, 5), *_lengths(tmp_path, "dml", 5, 6)]
    subset = {"train_subset": 99}
    runs.append(read_run(write_run(tmp_path / "subset", "ind", epochs=4, config=subset)))
    comparison = compare(runs[::-1] if turned else runs)
    assert {row.name: row.baseline for row in comparison.rows} == {
        "baseline, epochs 4": None, "baseline, epochs 5": None, "dml, epochs 5": "baseline, epochs 5",
        "dml, epochs 6": None, "ind": None,
    }  # fmt: skip
    markdown = to_markdown(comparison)
    assert "Not compared, since no baseline has the same networks, images, number of epochs and a" in markdown
    assert re.search(r"common seed: (dml, epochs 6; ind|ind; dml, epochs 6)\.", markdown)
    many = [*runs, *_lengths(tmp_path, "okddip, networks", 2, 3)]
    assert "common seed: the 4 rows without a difference." in to_markdown(compare(many))


@pytest.mark.parametrize("turned", [False, True])
def test_of_several_baselines_the_nearest_settings_count(tmp_path: Path, turned: bool) -> None:
    runs = []
    for lr in (0.1, 0.05):
        for method in ("baseline", "dml"):
            folder, config = tmp_path / f"{method}{lr}", {"optim": {"lr": lr}}
            runs.append(read_run(write_run(folder, method, config=config)))
    rows = {row.name: row.baseline for row in compare(runs[::-1] if turned else runs).rows}
    assert rows == {
        "baseline, optim.lr 0.1": None, "baseline, optim.lr 0.05": None,
        "dml, optim.lr 0.1": "baseline, optim.lr 0.1", "dml, optim.lr 0.05": "baseline, optim.lr 0.05",
    }  # fmt: skip


def test_a_seed_that_would_count_twice_is_refused(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, "dml", 1)) for name in ("one", "two")]
    with pytest.raises(
        UserError, match=r"one and .*two are both 'dml' with seed 1 .*: a seed counts once .*; leave one"
    ):
        compare(runs)


def test_the_same_directory_given_twice_counts_once(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", "dml", 1))
    assert len(compare([run, run]).rows[0].runs) == 1


def test_seeds_that_disagree_on_the_headline_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "one", "dml", 0)
    write_run(tmp_path / "two", "dml", 1, headline="leader")
    with pytest.raises(UserError, match=r"headlines leader and mean: one row averages one quantity; give these runs"):
        compare(find_runs([tmp_path]))


def test_any_row_can_be_the_baseline_by_its_label(tmp_path: Path) -> None:
    _write(tmp_path / "a", "ind", {0: 6.0, 1: 7.0})
    _write(tmp_path / "b", "dml", {0: 5.0, 1: 6.5})
    rows = compare(find_runs([tmp_path]), baseline="ind").rows
    assert [row.baseline for row in rows] == [None, "ind"]
    with pytest.raises(UserError, match=r"unknown label of a baseline 'inde': did you mean 'ind'\?"):
        compare(find_runs([tmp_path]), baseline="inde")


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(UserError, match="needs at least one; give a run directory"):
        compare([])
