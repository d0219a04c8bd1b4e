"""The report of a study on made-up runs: numbers next to the paper's, claims, warnings, CSV for all that is drawn."""

import csv
import html
import re

import numpy as np
import pytest
from synthetic_runs import write_run

from codistill.errors import UserError
from codistill.studies import group_size_curve
from codistill.studies.catalog import find_study
from codistill.studies.claims_okddip import CLAIMS
from codistill.studies.report import write_study_report
from codistill.studies.run_list import folder_stem, select
from codistill.studies.store import Store

COMMAND = "codistill study okddip/table2 --only resnet32 vgg16"
ERRORS = {
    "baseline": (30.0, 31.0, 32.0),
    "one": (28.0, 29.2, 30.1),
    "okddip_branch": (27.2, 28.1, 29.2),
}
"""Of three seeds; OKDDip's leader, the last of four students, is .15 below."""


def write_report(folder, study, errors, seeds=3, **more):
    """Write made-up runs (variant -> errors by seed) and the study's report."""
    for variant, of_seeds in errors.items():
        config, stem = study.variants[variant].config, folder_stem(study, variant)
        label = {"okddip": "okddip, branches", "baseline": "baseline"}.get(config.method, "dml")
        for seed, error in enumerate(of_seeds[:seeds]):
            run_dir = folder / "runs" / f"{stem}-seed{seed}"
            described = {"data": config.data, "models": config.model, "test_error": error}
            write_run(run_dir, label, seed, **described, config={"label": config.label or config.method}, **more)
    store, out = Store(folder), folder / "report"
    write_study_report(study, store.runs(study), store.places([study]), out, COMMAND)
    return out


def text_of(out):
    return html.unescape((out / "report.html").read_text())


def visible(out):
    """The visible text of the page, blanks made one."""
    return flat((out / "report.html").read_text())


def records(out, name):
    with (out / name).open(newline="") as file:
        return list(csv.DictReader(file))


def flat(markup):
    """The visible text, blanks made one."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", markup)).split())


@pytest.fixture(scope="module")
def study():
    return select(find_study("okddip/table2", "cpu"), ["resnet32", "vgg16"], ["one", "okddip_branch"])


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    errors = {f"resnet32/{column}": values for column, values in ERRORS.items()}
    errors["vgg16/baseline"] = (25.0, 26.0)
    return write_report(tmp_path_factory.mktemp("study"), study, errors)


def test_the_page_says_which_profile_it_is_and_that_it_is_not_the_papers_setting(report):
    page = text_of(report)
    assert "<title>okddip/table2: CIFAR-100, top-1 error" in page
    assert "Profile cpu: small networks, tuned, on 3,000 images of Fashion-MNIST or Glyphs-100 at 16 × 16; not" in page
    assert "Only the differences between methods can be compared, not the numbers" in page
    assert "Online Knowledge Distillation with Diverse Peers" in page
    assert "Reading slides: OKDDip by the slides' equations, in which a peer also attends to itself." in page
    assert "DML learns from the mean of the others' probabilities at T = 3" in page


def test_the_page_of_the_papers_own_setting_has_no_such_warning(tmp_path):
    study = select(find_study("okddip/table2", "paper"), ["resnet32"], ["baseline"])
    page = text_of(write_report(tmp_path, study, {"resnet32/baseline": ERRORS["baseline"]}))
    assert "Profile paper: the papers' networks, data and lengths." in page
    assert "are shown for orientation" not in page


def test_ours_is_next_to_the_papers_number_with_the_difference_to_the_base(report):
    page = visible(report)
    # Mean and interval of 27.05, 27.95, 29.05; the paper's; ours minus the paper's.
    assert "resnet32 okddip_branch 28.02 ± 1.00 25.53 to 30.50 3 25.63 ± 0.14 +2.39" in page
    # Difference to base: -2.95, -3.05, -2.95.
    assert re.search(r"\+2\.39 −2\.98 −3\.13 to −2\.84 < 0\.001 −51\.7 28\.12 ± 1\.00", page)
    assert "resnet32 baseline 31.00 ± 1.00 28.52 to 33.48 3 28.76 ± 0.08 +2.24 – – – 31.10 ± 1.00" in page


def test_numbers_of_fewer_than_three_seeds_are_marked(report):
    page = visible(report)
    assert "vgg16 baseline 25.50 ± 0.71 19.15 to 31.85 2 †" in page
    assert "† Fewer than 3 finished seeds: this number supports no conclusion." in page
    assert "| vgg16 | baseline | 25.50 ± 0.71 | 19.15 to 31.85 | 2 † |" in (report / "table.md").read_text()


def test_a_study_of_one_seed_is_marked_in_every_number(study, tmp_path):
    errors = {f"resnet32/{column}": values for column, values in ERRORS.items()}
    out = write_report(tmp_path, select(study, ["resnet32"]), errors, seeds=1)
    page = visible(out)
    for value, column in (("30.00", "baseline"), ("28.00", "one"), ("27.05", "okddip_branch")):
        assert re.search(rf"resnet32 {column} {value} (– )?1 †", page)
    assert "(one seed)" in (out / "table.md").read_text()
    assert {record["verdict"] for record in records(out, "claims.csv")} == {"undecided", "no runs"}
    assert all(record["p"] == "" for record in records(out, "numbers.csv"))


def test_every_claim_of_the_paper_is_judged_and_says_what_is_missing(report):
    page = visible(report)
    for claim in CLAIMS:
        assert claim.text in page
    # Of 22 comparisons with the network alone one has runs: -2.95, -3.05, -2.95 is clearly below 0.
    assert re.search(
        r" confirmed The group leader has a lower error than the same network trained alone\. "
        r"1 confirmed; no runs yet for 21 of 22 comparisons",
        page,
    )
    assert "no runs yet for its 11 comparisons" in page
    table = (report / "table.md").read_text()
    assert "| The group leader beats ONE. | confirmed | okddip branch against one, resnet32, table2: −1.08 (" in table
    assert "The error falls as the group grows." not in table  # nothing was measured


def test_claims_csv_has_every_comparison(report):
    found = records(report, "claims.csv")
    assert len(found) == sum(len(claim.contrasts) for claim in CLAIMS)
    measured = [record for record in found if record["verdict"] != "no runs"]
    assert [record["comparison"] for record in measured] == [
        "okddip branch against baseline, resnet32, table2",
        "okddip branch against one, resnet32, table2",
    ]
    assert float(measured[0]["mean"]) == pytest.approx((-2.95 - 3.05 - 2.95) / 3)
    assert measured[0]["n"] == "3"


def test_numbers_csv_has_every_number_unrounded(report):
    found = {(r["row"], r["column"]): r for r in records(report, "numbers.csv")}
    assert len(found) == 6
    assert {r["reading"] for r in found.values()} == {"slides"}
    number = found["resnet32", "okddip_branch"]
    values = dict(pair.split(":") for pair in number["values"].split())
    assert {int(seed): float(value) for seed, value in values.items()} == pytest.approx({0: 27.05, 1: 27.95, 2: 29.05})
    assert float(number["ours_mean"]) == pytest.approx(84.05 / 3)
    assert float(number["selected_mean"]) == pytest.approx(84.05 / 3 + 0.1)
    assert float(number["off"]) == pytest.approx(84.05 / 3 - 25.63)
    assert float(number["against_base_mean"]) == pytest.approx(-8.95 / 3)
    assert (number["paper"], number["paper_std"], number["profile"]) == ("25.63", "0.14", "cpu")
    assert found["vgg16", "one"]["ours_mean"] == ""
    assert found["vgg16", "one"]["paper"] == "25.63"


def test_the_markdown_table_carries_its_evidence(report):
    table = (report / "table.md").read_text()
    for evidence in (
        f"| command | `{COMMAND}` |",
        "| reference | Chen et al.,",
        "| data | glyphs; 1,150 training, 287 validation, 360 test images |",
        "| protocol | last epoch of 6; the test set is read once |",
        "| seeds | 0, 1, 2 |",
        "| runs | 11 finished, 0.0 h of training |",
        "| machine | AMD EPYC 7R13, cpu |",
        "| versions | codistill 0.1.0, torch 2.9.1, python 3.11.7 |",
    ):
        assert evidence in table
    assert re.search(r"\| date \| \d{4}-\d\d-\d\d \|", table)
    assert "Profile cpu: small networks" in table


def test_the_page_is_self_contained(report):
    page = (report / "report.html").read_text()
    assert not re.findall(r"<(?:script|img|iframe)\b", page)
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", page)
    assert "@import" not in page
    assert len(re.findall(r"id=\"", page)) == len(set(re.findall(r"id=\"[^\"]*\"", page)))


def test_what_the_page_draws_is_in_the_csv_files_run_by_run(report):
    keys = [(r["heading"], r["row"], r["seed"], r["weights"], r["member"]) for r in records(report, "peers.csv")]
    assert len(set(keys)) == len(keys)
    assert {key[:2] for key in keys} == {
        ("resnet32", "baseline"), ("resnet32", "one"), ("resnet32", "okddip, branches"), ("vgg16", "baseline"),
    }  # fmt: skip
    epochs = [(r["heading"], r["row"], r["seed"], r["epoch"]) for r in records(report, "epochs.csv")]
    assert len(set(epochs)) == len(epochs) == 11 * 6
    assert {path.name for path in report.iterdir()} == {
        "report.html", "table.md", "numbers.csv", "claims.csv", "comparison.csv", "peers.csv", "epochs.csv",
        "loss_parts.csv", "attention.csv", "reliability.csv",
    }  # fmt: skip


def test_the_runs_are_below_under_their_headings(report):
    page = text_of(report)
    headings = [flat(heading) for heading in re.findall(r"<h2[^>]*>.*?</h2>", page)]
    places = [
        headings.index(heading) for heading in ("Compared with the paper", "The paper's claims", "resnet32", "vgg16")
    ]
    assert places == sorted(places)


def test_figure3_is_a_curve_with_a_band_whose_points_are_all_in_the_csv(tmp_path, monkeypatch):
    drawn = []
    draw = group_size_curve.curve_figure
    monkeypatch.setattr(
        group_size_curve, "curve_figure", lambda lines, *args, **more: drawn.extend(lines) or draw(lines, *args, **more)
    )
    study = find_study("okddip/figure3", "cpu")
    errors = {f"resnet32/{m}": (28.0 - m / 2, 28.4 - m / 2, 28.6 - m / 2) for m in (2, 3, 4, 6, 8)}
    del errors["resnet32/6"]
    out = write_report(tmp_path, study, errors)
    (line,) = drawn
    found = [record for record in records(out, "numbers.csv") if record["ours_mean"]]
    assert line.epochs.tolist() == [int(record["column"]) for record in found] == [2, 3, 4, 8]
    assert line.mean.tolist() == pytest.approx([float(record["ours_mean"]) for record in found])
    values = np.array([[float(pair.split(":")[1]) for pair in record["values"].split()] for record in found])
    np.testing.assert_allclose(line.low, values.min(axis=1))
    np.testing.assert_allclose(line.high, values.max(axis=1))
    np.testing.assert_allclose(line.low, [28.0 - m / 2 - 0.15 for m in (2, 3, 4, 8)])
    page = text_of(out)
    assert "Size of the group" in page
    assert "Top-1 error over the number of students: 2 students 27.18 %; 3 students 26.68 %" in page


def test_figure3_has_no_curve_of_one_point(tmp_path):
    out = write_report(tmp_path, find_study("okddip/figure3", "cpu"), {"resnet32/4": (26.0, 26.4, 26.6)})
    assert "Size of the group" not in text_of(out)


def test_gain_and_parameters_stand_with_their_units(tmp_path):
    two = select(find_study("kdcl/table7", "cpu"), ["vanilla", "dml"])
    errors = {"vanilla, resnet32": (30.0, 31.0, 32.0), "vanilla, wrn16_2": (28.0, 28.5, 29.0)}
    errors["dml, resnet32 + wrn16_2"] = (26.85, 27.85, 28.25)
    out = write_report(tmp_path, two, errors)
    assert "dml gain, points 4.00 ± 0.36 3.10 to 4.90 3 6.00 −2.00" in visible(out)
    assert "| dml | gain, points | 4.00 ± 0.36 | 3.10 to 4.90 | 3 | 6.00 | – | – |" in (out / "table.md").read_text()
    sizes = select(find_study("kdcl/table3", "cpu"), ["vanilla"])
    page = visible(write_report(tmp_path / "sizes", sizes, {"vanilla, resnet18": (30.0, 31.0, 32.0)}))
    assert re.search(r"vanilla params_m, millions 0\.08 ± 0\.00 0\.08 to 0\.08 3 11\.70", page)


def test_a_method_with_two_networks_stands_over_both(study, report, tmp_path):
    # In the report of the others no method has two.
    assert "Over networks" not in visible(report) + (report / "table.md").read_text()
    assert not (report / "across.csv").exists()
    errors = {"resnet32/baseline": (30.0, 31.0), "resnet32/one": (29.0, 29.8)}
    errors |= {"vgg16/baseline": (25.0, 26.0), "vgg16/one": (25.5, 25.5)}
    out = write_report(tmp_path, study, errors)
    # ONE has no leader: the mean of the students is compared. -1.1 and 0 on average; all four pairs of ResNet-32 are
    # better, and two of four of VGG-16.
    (record,) = records(out, "across.csv")
    assert (record["method"], record["tasks"], record["pairs"]) == ("one", "2", "4")
    assert record["names"] == "resnet32, table2; vgg16, table2"
    assert float(record["difference"]) == pytest.approx(-0.55)
    assert float(record["improves"]) == pytest.approx(0.75)
    assert "Over networks and data sets" in visible(out)
    assert re.search(r" one 2 4 −0\.55 −[0-9.]+ to [−0-9.]+ 75 ", visible(out))
    assert "| one | 2 | 4 | −0.55 | " in (out / "table.md").read_text()


def test_small_differences_are_called_so(study, tmp_path):
    errors = {"resnet32/baseline": (30.0, 31.0, 32.0), "resnet32/okddip_branch": (30.15, 31.16, 32.14)}
    out = write_report(tmp_path, study, errors)
    # The leader is .15 below its group.
    assert (
        "| The group leader has a lower error than the same network trained alone. | no difference |"
        in (out / "table.md").read_text()
    )
    record = next(r for r in records(out, "claims.csv") if r["verdict"] == "no difference")
    assert float(record["margin"]) == 0.3
    assert float(record["p_no_difference"]) < 0.001
    assert "no difference The group leader has a lower error than the same network trained alone." in visible(out)


def test_a_run_that_is_not_finished_is_named_and_counts_in_no_number(tmp_path):
    study = select(find_study("okddip/table2", "cpu"), ["resnet32"], ["baseline"])
    out = write_report(tmp_path, study, {"resnet32/baseline": (30.0,)}, done=3)
    page = visible(out)
    assert "baseline, seed 0: 3 of 6 epochs" in page
    assert "resnet32 baseline – 0 †" in page


def test_page_and_tables_say_which_reading_they_are_and_count_no_run_of_the_other(tmp_path):
    slides, released = (
        select(find_study("okddip/table2", "cpu", reading), ["resnet32"], ["one"]) for reading in ("slides", "released")
    )
    write_report(tmp_path, slides, {"resnet32/baseline": (30.0,)})
    out = write_report(tmp_path / "released", released, {"resnet32/baseline": (31.0,)})
    page, table = visible(out), (out / "table.md").read_text()
    assert "<title>okddip/table2: CIFAR-100, top-1 error; reading: released" in text_of(out)
    assert "Reading released: every column as in the code that OKDDip's authors released" in page
    assert "Reading slides" not in page + table
    assert "# okddip/table2: CIFAR-100, top-1 error; reading: released" in table
    assert "| reading | released |" in table
    assert "Reading released: every column as" in table
    assert {record["reading"] for record in records(out, "numbers.csv")} == {"released"}
    assert not any(Store(tmp_path).runs(released).values())


def test_the_page_of_kdcl_has_no_reading(tmp_path):
    study = select(find_study("kdcl/table5", "cpu", "released"))
    out = write_report(tmp_path, study, {"vanilla, resnet18": (30.0,)})
    assert "Reading" not in visible(out) + (out / "table.md").read_text()
    assert "Unclear on the slides: the single ResNet-18 has 70.1 here" in visible(out)


def test_a_study_without_runs_has_no_report(study, tmp_path):
    with pytest.raises(UserError, match="no runs to compare"):
        write_report(tmp_path, study, {})
