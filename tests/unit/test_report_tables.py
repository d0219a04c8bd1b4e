"""The comparison in the terminal, in Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import write_demo, write_run

from codistill.errors import UserError
from codistill.reports import compare, find_runs, render_table, to_csv_rows, to_markdown, write_csv
from codistill.reports.details import peer_grid
from codistill.reports.numbers import number, p_value


def _terminal(paths: list[Path], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_table(compare(find_runs(paths))))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_table_fits_80_characters_with_every_number(tmp_path: Path) -> None:
    text = _terminal([write_demo(tmp_path / "demo", epochs=1)])
    assert max(map(len, text.splitlines())) <= 80
    assert "digits" in text.splitlines()[0]
    assert "…" not in text
    baseline = next(line for line in text.splitlines() if line.startswith("baseline"))
    assert baseline.split() == ["baseline", "network", "3.97", "±", "0.21", "–", "–", "–", "0.8"]
    # What all rows have in common stands in the title.
    assert text.splitlines()[0].strip() == "Top-1 test error on digits, last epoch, 3 seeds, 78,042 parameters"


def test_marks_in_labels_are_not_markup(tmp_path: Path) -> None:
    assert "[red]x" in _terminal([write_run(tmp_path / "r", "[red]x")], width=120)


def test_data_sets_stand_one_below_the_other_in_the_terminal(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / data, data=data) for data in ("digits", "glyphs")]
    text = _terminal(paths)
    assert text.index("error on digits") < text.index("error on glyphs")
    # However narrow the table is, a title and a note take the width that there is.
    assert "Top-1 test error on digits, last epoch\n" in _terminal([write_run(tmp_path / "going", done=1)])


def test_few_seeds_are_marked_with_their_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, done=1)
    markdown = to_markdown(compare(find_runs([tmp_path])))
    assert "| 1 † (1 unfinished) |" in markdown
    assert "† Fewer than 3 finished seeds: this row supports no conclusion." in markdown
    assert "±" not in markdown


def test_a_markdown_cell_has_mean_deviation_and_interval(tmp_path: Path) -> None:
    for seed, error in enumerate((2.0, 3.0, 7.0)):
        write_run(tmp_path / str(seed), "dml", seed, test_error=error)
    markdown = to_markdown(compare(find_runs([tmp_path])))
    assert "| 4.00 ± 2.65 (−2.57 to 10.57) |" in markdown
    assert "Difference" not in markdown  # a column that no row fills is left out


def test_a_difference_on_fewer_seeds_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "b0", "baseline", 0, test_error=3.0)
    for seed in range(2):
        write_run(tmp_path / f"d{seed}", "dml", seed, test_error=2.5)
    assert "| −0.50 (on 1 of 2 seeds) |" in to_markdown(compare(find_runs([tmp_path])))


def test_markdown_escapes_what_would_break_the_table(tmp_path: Path) -> None:
    assert r"a\|b\_c\*" in to_markdown(compare(find_runs([write_run(tmp_path / "r", "a|b_c*")])))


def test_csv_rows_are_unrounded_numbers(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"b{seed}", "baseline", seed, test_error=6.0 + seed / 4)
        write_run(tmp_path / f"d{seed}", "dml", seed, test_error=5.0 + seed / 8)
    baseline, dml = to_csv_rows(compare(find_runs([tmp_path])))
    assert baseline["error_percent_mean"] == pytest.approx(6.25)
    assert baseline["p"] is None
    assert baseline["baseline"] is None
    assert dml["difference_points_mean"] == pytest.approx(-1.125)
    assert (dml["baseline"], dml["seeds"], dml["headline"], dml["pairs"]) == ("baseline", 3, "mean", 3)


def test_everything_plotted_is_in_a_csv(tmp_path: Path) -> None:
    demo = write_demo(tmp_path / "demo", seeds=2, epochs=3)
    files = write_csv(find_runs([demo]), tmp_path / "csv" / "deep")
    read = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in files}
    assert list(read) == [
        "comparison.csv", "peers.csv", "epochs.csv", "loss_parts.csv", "attention.csv", "reliability.csv",
    ]  # fmt: skip
    assert len(read["comparison.csv"]) == 7
    assert len(read["epochs.csv"]) == 7 * 2 * 3
    assert len(read["peers.csv"]) == 2 * 2 * (6 * (4 + 4) + 1 + 4)
    assert len(read["attention.csv"]) == 2 * 2 * 9
    assert len(read["reliability.csv"]) == 7 * 2 * 2 * 15
    weights = {(r["row"], r["seed"], r["listener"], r["listened_to"]): r["weight"] for r in read["attention.csv"]}
    assert weights["okddip, branches", "0", "0", "1"] == "0.31"
    assert weights["okddip, branches", "0", "1", "0"] == "0.22"


def test_a_csv_without_data_is_left_out(tmp_path: Path) -> None:
    files = write_csv(find_runs([write_run(tmp_path / "r", "dml", done=1)]), tmp_path / "csv")
    assert {path.name for path in files} == {"comparison.csv", "epochs.csv", "loss_parts.csv"}


def test_csvs_cannot_go_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be written \(.*\): .*; give another folder"):
        write_csv(find_runs([write_run(tmp_path / "r")]), tmp_path / "file")


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert number(-1.234, sign=True) == "−1.23"
    assert number(0.5, 1, sign=True) == "+0.5"
    assert number(-0.001) == "0.00"
    assert number(float("nan")) == "not a number"
    assert (p_value(0.0004), p_value(0.0449)) == ("< 0.001", "0.045")


def test_an_ensemble_of_the_methods_own_is_shown_and_exported_where_a_run_has_one(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"seed{seed}", "dml", seed) for seed in (0, 1)]
    record = json.loads((folders[0] / "summary.json").read_text())
    for weights in ("last", "selected"):
        record[weights]["test"]["ensemble_own"] = {"top1_error": 1.23, "top5_error": 0.1, "nll": 0.05, "ece": 0.4}
    (folders[0] / "summary.json").write_text(json.dumps(record))
    runs = find_runs([tmp_path])
    lines = [[cell.text for cell in line] for line in peer_grid(compare(runs).rows[0]).lines]
    assert [line[3] for line in lines if line[:2] == ["0", "ensemble of the method"]] == ["1.23"]
    assert not [line for line in lines if line[:2] == ["1", "ensemble of the method"]]
    peers = next(path for path in write_csv(runs, tmp_path / "csv") if path.name == "peers.csv")
    own = [row for row in csv.DictReader(peers.read_text().splitlines()) if row["member"] == "ensemble_own"]
    assert [(row["seed"], row["weights"], row["top1_error"]) for row in own] == [
        ("0", "last", "1.23"),
        ("0", "selected", "1.23"),
    ]
