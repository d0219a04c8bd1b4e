"""What the pictures are drawn from."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import write_run

import codistill.reports
from codistill.reports import compare, find_runs
from codistill.reports.figures.attention import last_attention
from codistill.reports.figures.calibration import pooled
from codistill.reports.figures.curves import curve_figure, line_over_seeds
from codistill.reports.figures.forest import forest_figure
from codistill.reports.figures.pens import Pen, pens_for, plain_pens
from codistill.rundir import Bins

PEN = Pen(1, (), "o")


def test_a_line_is_the_mean_over_the_seeds_that_got_there(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "dml", 0, epochs=3)
    write_run(tmp_path / "b", "dml", 2, epochs=3, done=2)
    runs = find_runs([tmp_path])
    line = line_over_seeds(runs, PEN, lambda epoch: 10.0 * epoch.epoch + epoch.validation.diversity.distance)
    first, second = (run.metrics for run in runs)
    assert line is not None
    assert line.epochs.tolist() == [1, 2, 3]
    expected = 10 + (first[0].validation.diversity.distance + second[0].validation.diversity.distance) / 2
    assert line.mean[0] == pytest.approx(expected)
    assert line.high[0] - line.low[0] == pytest.approx(0.006)
    assert line.low[2] == line.high[2]


def test_a_quantity_that_no_epoch_has_gives_no_line(tmp_path: Path) -> None:
    runs = find_runs([write_run(tmp_path / "a", "baseline")])
    assert line_over_seeds(runs, PEN, lambda epoch: epoch.train.parts.get("kd")) is None


def test_values_far_apart_get_a_logarithmic_axis_with_plain_numbers(tmp_path: Path) -> None:
    runs = find_runs([write_run(tmp_path / "a", "dml")])
    steep = line_over_seeds(runs, PEN, lambda epoch: 100.0 / 4**epoch.epoch)
    flat = line_over_seeds(runs, PEN, lambda epoch: 3.0 + epoch.epoch)
    assert steep is not None
    assert flat is not None
    drawn = curve_figure([steep], "a", "steep", y="%")
    assert all(f">{tick}</text>" in drawn for tick in ("0.1", "1", "10"))
    assert ">0</text>" not in drawn
    assert ">0</text>" in curve_figure([flat], "b", "flat", y="%")


def test_a_long_name_is_cut_before_it_runs_into_the_error_next_to_it(tmp_path: Path) -> None:
    names = ["dml", "kdcl_minlogit, ICL, resnet20_tiny + resnet8_tiny + mobilenet_v2_tiny"]
    for name in names:
        write_run(tmp_path / name, name)
    rows = compare(find_runs([tmp_path])).tables[0].rows
    pens = pens_for(rows)
    drawn = forest_figure(rows, pens, "a", "errors")
    assert ">dml</text>" in drawn
    assert ">kdcl_minlogit, ICL, resnet20_tiny + resnet8_tiny +…</text>" in drawn
    assert f">{names[1]}</text>" in forest_figure(rows, pens, "a", "errors", width=800)


def test_attention_is_the_mean_over_seeds_of_the_last_epoch(tmp_path: Path) -> None:
    for seed in (0, 2):
        write_run(tmp_path / str(seed), "okddip, networks", seed)
    matrix = last_attention(tuple(find_runs([tmp_path])))
    assert matrix is not None
    assert matrix[0].tolist() == pytest.approx([0.43, 0.305, 0.265])


def test_reliability_bins_are_pooled_by_their_images() -> None:
    one = Bins(count=(1, 0, 2), confidence=(0.2, None, 0.8), accuracy=(0.0, None, 0.5))
    two = Bins(count=(3, 0, 0), confidence=(0.6, None, None), accuracy=(1.0, None, None))
    assert pooled([one, two]) == pytest.approx(np.array([[4.0, 0.5, 0.75], [2.0, 0.8, 0.5]]))


def test_every_row_has_a_pen_of_its_own_and_the_baseline_a_neutral_one(tmp_path: Path) -> None:
    for label in ("dml", "baseline", "ind"):
        write_run(tmp_path / label, label)
    pens = pens_for(compare(find_runs([tmp_path])).rows)
    assert pens["baseline"].series == 0
    assert len(set(pens.values())) == 3
    assert len(set(plain_pens(28))) == 28


def test_a_table_does_not_wait_for_matplotlib_and_no_report_for_torch() -> None:
    heavy = ("torch", "matplotlib", "codistill.reports.figures", "codistill.reports.sections")
    for path in Path(codistill.reports.__file__).parent.glob("*.py"):
        # Imports within functions and under TYPE_CHECKING are not in the body of the module.
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(statement, "names", [])] + [getattr(statement, "module", "") or ""]
            if isinstance(statement, ast.Import | ast.ImportFrom) and path.name != "sections.py":
                assert not [name for name in names if name.startswith(heavy)], path


def test_no_picture_touches_the_global_state_of_pyplot() -> None:
    for path in Path(codistill.reports.__file__).parent.rglob("*.py"):
        assert "pyplot" not in path.read_text(encoding="utf-8")
