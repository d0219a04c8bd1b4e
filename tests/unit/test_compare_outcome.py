"""The numbers and sentences of a comparison, from made-up runs whose differences are known."""

import json

import pytest
from scipy import stats
from synthetic_runs import write_run

from codistill.compare.beside import beside
from codistill.compare.outcome import judge
from codistill.compare.output import in_words, write_numbers, write_report
from codistill.compare.tuning import Choice
from codistill.compare.variants import ALONE, CHEAP, LONGER, METHOD, Variant
from codistill.config import Config
from codistill.rundir import read_run

ALONE_ERRORS = (5.0, 6.0, 7.0)


def variant(name, kind=METHOD, **config):
    return Variant(name, kind, Config(model=("resnet8",), label=name, **config))


def write(folder, name, errors, validation=None, seconds=10.0, label=None, **changes):
    """Runs of seeds 0, 1, ... whose deployed student has these test errors, in percent."""
    found = []
    for seed, error in enumerate(errors):
        run = write_run(folder / f"{name}-seed{seed}", label or name, seed, **changes)
        path = run / "summary.json"
        summary = json.loads(path.read_text())
        summary["label"] = name
        summary["seconds"]["training"] = seconds
        summary["last"]["test"]["leader"]["top1_error"] = error
        if validation is not None:
            summary["last"]["validation"]["leader"]["top1_error"] = validation[seed]
        path.write_text(json.dumps(summary))
        config = run / "config.yaml"
        config.write_text(config.read_text().replace(f"label: {label}", f"label: {name}"))
        found.append(read_run(run))
    return found


@pytest.fixture
def three(tmp_path):
    """The network alone, one method that gains 2, 1.5 and 1 points, and one that gains 1, -1 and 0."""
    runs = {
        "alone": write(tmp_path, "alone", ALONE_ERRORS, (5.0, 5.0, 5.0), label="baseline"),
        "okddip": write(tmp_path, "okddip", (3.0, 4.5, 6.0), (4.0, 3.0, 4.0), 25.0, label="okddip, networks"),
        "dml": write(tmp_path, "dml", (4.0, 7.0, 7.0), (6.0, 6.0, 1.0), 40.0),
    }
    return [variant("alone", ALONE), variant("okddip"), variant("dml")], runs


WORK = {"alone": 1.0, "okddip": 4.0, "dml": 4.0}


def test_gain_interval_and_p_are_those_of_the_paired_test_by_seed(three):
    outcome = judge(*three, WORK)
    gain = outcome.gains["okddip"]
    gap = gain.paired.difference
    assert gap.values == (2.0, 1.5, 1.0)
    # t(0.975, 2) = 4.302653; deviation 0.5; half width 4.302653 · 0.5 / sqrt(3)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((1.5, 0.257931, 2.742069), abs=1e-5)
    assert gain.paired.p == pytest.approx(stats.ttest_1samp([2.0, 1.5, 1.0], 0).pvalue)
    assert (gain.tests, gain.p_holm) == (2, pytest.approx(2 * gain.paired.p))
    assert outcome.gains["dml"].p_holm == pytest.approx(1.0)


def test_what_so_many_seeds_could_have_shown_is_by_the_strictest_step_of_holm(three):
    gain = judge(*three, WORK).gains["dml"]
    # Differences 1, -1, 0: deviation 1. Power of the two-sided test at 0.05 / 2 with non-central t.
    critical = stats.t.isf(0.05 / 4, 2)
    assert stats.nct.cdf(critical, 2, gain.detectable * 3**0.5) == pytest.approx(0.2, abs=1e-4)
    assert gain.seeds_needed is None
    # okddip's effect is 3: the fewest seeds with which the power is 0.8.
    power = {n: stats.nct.sf(stats.t.isf(0.05 / 4, n - 1), n - 1, 3 * n**0.5) for n in (3, 4)}
    assert power[3] < 0.8 < power[4]
    assert judge(*three, WORK).gains["okddip"].seeds_needed == 4


def test_cost_parameters_and_the_deployed_student(three):
    _, okddip, dml = judge(*three, WORK).results
    assert (okddip.cost, dml.cost) == (2.5, 4.0)
    assert (okddip.rule, okddip.headline, okddip.parameters) == ("group leader", "leader", 78042)
    # The students' mean is kept next to the deployed one, and is not what is compared.
    assert dml.headline == "mean"
    assert dml.error.values == (4.0, 7.0, 7.0)
    assert dml.headline_error.values == tuple(s.last.test.mean.top1_error for s in dml.summaries)


def test_the_run_to_deploy_is_chosen_by_validation_alone(three):
    # dml has the best single run and okddip the best mean; the test errors say seed 0.
    deploy = judge(*three, WORK).deploy
    assert (deploy.label, deploy.seed) == ("okddip", 1)


def test_equal_validation_errors_deploy_the_network_alone(tmp_path):
    runs = {
        "dml": write(tmp_path, "dml", (1.0,), (5.0,)),
        "alone": write(tmp_path, "alone", (5.0,), (5.0,), label="baseline"),
    }
    assert judge([variant("alone", ALONE), variant("dml")], runs, WORK).deploy.label == "alone"


def test_methods_are_compared_with_what_else_their_own_computation_buys(three, tmp_path):
    variants, runs = three
    variants += [variant("alone, averaged weights", CHEAP), variant("alone, 24 epochs", LONGER)]
    variants += [variant("alone, 12 epochs", LONGER), variant("one")]
    runs["alone, averaged weights"] = write(tmp_path, "averaged", (4.0, 5.0, 6.5), label="baseline")
    runs["alone, 24 epochs"] = write(tmp_path, "longer", (3.0, 4.0, 4.5), label="baseline")
    work = {**WORK, "one": 2.0, "alone, 24 epochs": 4.0, "alone, 12 epochs": 2.0, "alone, averaged weights": 1.0}
    outcome = judge(variants, runs, work)
    pairs = [(g.who, g.against, g.paired.difference.mean) for g in outcome.equal]
    assert pairs == [
        ("okddip", "alone, averaged weights", pytest.approx(2 / 3)),
        ("okddip", "alone, 24 epochs", pytest.approx(-2 / 3)),
        ("dml", "alone, averaged weights", pytest.approx(-2.5 / 3)),
        ("dml", "alone, 24 epochs", pytest.approx(-6.5 / 3)),
    ]
    # Three methods, each with the averaged network and the one trained for longer; `one` has no run yet.
    assert {g.tests for g in outcome.equal} == {6}
    # Against the network alone: three methods and the averaged weights; training for longer is not tested.
    assert outcome.gains["okddip"].tests == 4
    assert (outcome.gains["alone, 24 epochs"].tests, outcome.gains["alone, 24 epochs"].p_holm) == (0, None)
    lines = "\n".join(in_words(outcome, work, [], None, [0, 1, 2]).equal)
    assert "The arithmetic of okddip; dml is 4.0 times that of the network alone, which is worth alone, 24 ep" in lines


def words(variants, runs, seeds=3, choices=()):
    return in_words(judge(variants, runs, WORK), WORK, choices, None, list(range(seeds)))


def test_the_verdict_says_what_was_gained_and_how_sure_that_is(three):
    verdict = words(*three).verdict
    assert verdict[0] == (
        "The network alone had an error of 6.00 ± 1.00 % over 3 seeds, on 360 test images, of which one is 0.28 points."
    )
    assert verdict[1].startswith(
        "With 3 seeds, okddip had 1.50 points less error than the network alone (95 % interval 0.26 to 2.74, p = 0.070 "
        "after Holm for 2 comparisons). This may be chance. 3 seeds find a true difference of "
    )
    # The mean 1.50, its error 0.2887 and t(0.95, 2) = 2.920.
    assert verdict[1].endswith(
        "one as large as observed takes about 4 seeds. With 95 % confidence the difference is below 2.34 points, "
        "either way."
    )
    assert "takes more than 1,000 seeds. With 95 % confidence the difference is below " in verdict[2]


def test_a_sure_gain_and_a_sure_loss_are_called_so(tmp_path):
    runs = {
        "alone": write(tmp_path, "alone", (5.0, 6.0, 7.0, 6.0), label="baseline"),
        "okddip": write(tmp_path, "okddip", (3.0, 4.1, 5.0, 4.0), label="okddip, networks"),
        "dml": write(tmp_path, "dml", (7.0, 8.1, 9.0, 8.0)),
    }
    verdict = words([variant("alone", ALONE), variant("okddip"), variant("dml")], runs, 4).verdict
    assert "okddip had 1.98 points less error" in verdict[1]
    assert verdict[1].endswith("p < 0.001 after Holm for 2 comparisons). This is more than chance: it helped.")
    # The interval has the sign of the sentence.
    assert "dml had 2.02 points more error than the network alone (95 % interval 1.95 to 2.10, p < 0.001" in verdict[2]
    assert verdict[2].endswith("This is more than chance: it made things worse.")


def test_one_or_two_seeds_and_equal_differences_conclude_nothing(tmp_path):
    two = {
        "alone": write(tmp_path / "2", "alone", (5.0, 6.0), label="baseline"),
        "dml": write(tmp_path / "2", "dml", (4.0, 5.5)),
    }
    variants = [variant("alone", ALONE), variant("dml")]
    assert words(variants, two, 2).verdict[1].endswith("p = 0.205). 2 seeds support no conclusion.")
    one = {name: runs[:1] for name, runs in two.items()}
    assert words(variants, one, 1).verdict[1] == (
        "With 1 seed, dml had 1.00 points less error than the network alone. One seed says nothing about chance."
    )
    same = {
        "alone": write(tmp_path / "3", "alone", (5.0, 6.0, 7.0), label="baseline"),
        "dml": write(tmp_path / "3", "dml", (5.0, 6.0, 7.0)),
    }
    assert "dml had the same error as the network alone every time." in words(variants, same).verdict[1]
    same["dml"] = write(tmp_path / "4", "dml", (4.0, 5.0, 6.0))
    assert (
        words(variants, same).verdict[1].endswith("The difference was the same every time, so chance cannot be judged.")
    )


def test_seeds_that_only_one_of_them_has_are_left_out_and_an_unfinished_comparison_says_so(three):
    variants, runs = three
    runs = {**runs, "okddip": runs["okddip"][1:], "dml": []}
    outcome = judge(variants, runs, WORK)
    assert outcome.gains["okddip"].paired.difference.values == (1.5, 1.0)
    verdict = words(variants, runs).verdict
    assert verdict[0] == "Not finished: 5 of 9 runs are done."
    assert verdict[-1] == "dml: no seed is finished yet."


def test_another_headline_figure_is_what_is_compared(three, tmp_path):
    variants, runs = three
    for of_variant in runs.values():
        for run in of_variant:
            path = run.directory / "summary.json"
            summary = json.loads(path.read_text())
            summary["figure"] = "macro_f1"
            error = summary["last"]["test"]["leader"]["top1_error"]
            for part in ("test", "validation"):
                for who in ("leader", "mean", "ensemble"):
                    summary["last"][part][who]["macro_f1"] = 90.0 - error
            path.write_text(json.dumps(summary))
    runs = {name: [read_run(run.directory) for run in of_variant] for name, of_variant in runs.items()}
    outcome = judge(variants, runs, WORK)
    assert outcome.alone.error.values == (15.0, 16.0, 17.0)
    assert outcome.gains["okddip"].paired.difference.values == (2.0, 1.5, 1.0)
    assert (
        "okddip had 1.50 points less shortfall of macro F1 than the network alone" in words(variants, runs).verdict[1]
    )


def test_with_a_balanced_error_an_image_counts_by_its_class_and_headings_name_the_figure(three, tmp_path):
    variants, runs = three
    for run in (run for of_variant in runs.values() for run in of_variant):
        path = run.directory / "summary.json"
        summary = json.loads(path.read_text())
        summary["figure"] = "balanced_error"
        summary["last"]["test"]["confusion"] = [[60, 20, 0], [10, 190, 0], [0, 0, 80]]
        for part in ("test", "validation"):
            for who in ("leader", "mean", "ensemble"):
                summary["last"][part][who]["balanced_error"] = 21.0
        path.write_text(json.dumps(summary))
    runs = {name: [read_run(run.directory) for run in of_variant] for name, of_variant in runs.items()}
    outcome, said = judge(variants, runs, WORK), words(variants, runs)
    # One of 200 images moves the mean of three classes by 100 / 600, one of 80 by 100 / 240.
    assert "on 360 test images, of which one is 0.17 to 0.42 points, by its class." in said.verdict[0]
    assert said.deploy[0].startswith("Deploy alone, seed 0, chosen by validation (mean validation balanced error 21.00")
    page = write_report(tmp_path / "out", outcome, said, [], [r for of in runs.values() for r in of]).read_text()
    assert "Balanced error, deployed" in page
    assert "Less balanced error than alone" in page
    assert "Validation balanced error" in page


def test_files_hold_the_same_numbers_and_the_page_begins_with_the_verdict(three, tmp_path):
    variants, runs = three
    outcome = judge(variants, runs, WORK)
    choices = [Choice("dml", (("dml, temperature 2", 3.0), ("dml", 3.5)), {"temperature": 2.0})]
    said = words(variants, runs, choices=choices)
    write_numbers(tmp_path / "out", outcome, said, choices, None, {"seeds": 3})
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (record["kind"], record["seeds"], record["deploy"]) == (
        "codistill-comparison", 3, str(runs["okddip"][1].directory),
    )  # fmt: skip
    assert record["gains"][0]["less_error_points"]["values"] == [2.0, 1.5, 1.0]
    assert record["variants"][1]["training_time"] == 2.5
    assert record["verdict"] == said.lines
    table = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert table[2].startswith("okddip,method,3,4.5,1.5,")
    assert len(table) == 4

    page = write_report(tmp_path / "out", outcome, said, choices, [r for of in runs.values() for r in of]).read_text()
    assert page.index("Did it help?</h2>") < page.index("With 3 seeds, okddip had 1.50") < page.index("Results</h2>")
    assert "codistill export" in page
    assert "dml: temperature 2 (validation error 3.00 %, with its defaults 3.50 %; 2 settings tried)." in page
    # The tables below count the deployed student too: okddip 4.50, and dml's leader where other reports show the mean.
    assert "dml 6.00 ± 1.73 %" in page


@pytest.mark.parametrize(("errors", "shown"), [((4.9, 6.0, 6.9, 6.1), False), ((3.0, 4.1, 5.0, 4.0), True)])
def test_a_choice_that_is_not_shown_to_be_better_says_so(tmp_path, errors, shown):
    runs = {
        "alone": write(tmp_path, "alone", (5.0, 6.0, 7.0, 6.0), (9.0,) * 4, label="baseline"),
        "okddip": write(tmp_path, "okddip", errors, (8.0,) * 4, label="okddip, networks"),
    }
    said = words([variant("alone", ALONE), variant("okddip")], runs, 4).deploy
    assert said[0].startswith("Deploy okddip")
    assert any("a run of the network alone would do as well" in text for text in said) != shown


def test_all_students_together_and_calibration_stand_beside_the_error(three, tmp_path):
    variants, runs = three
    for run, together, ece in zip(runs["dml"], (2.0, 3.0, 4.0), (0.5, 1.0, 1.5), strict=True):
        path = run.directory / "summary.json"
        summary = json.loads(path.read_text())
        summary["last"]["test"]["ensemble"]["top1_error"] = together
        summary["last"]["test"]["leader"] |= {"ece": ece, "nll": ece / 10}
        path.write_text(json.dumps(summary))
    runs["dml"] = [read_run(run.directory) for run in runs["dml"]]
    for run in runs["alone"]:
        assert run.summary.last.test.ensemble.top1_error != 5.0
    outcome = judge(variants, runs, WORK)
    alone, _, dml = beside(outcome)
    assert (alone.students, alone.ensemble.gain, alone.ece.gain) == (1, None, None)
    base = [run.summary.last.test.leader for run in runs["alone"]]
    assert dml.ensemble.value.values == (2.0, 3.0, 4.0)
    # Against the one network alone, whose errors are 5, 6 and 7, and not against what its group of one has together.
    assert dml.ensemble.gain.values == pytest.approx((3.0, 3.0, 3.0))
    assert dml.ece.gain.values == pytest.approx([b.ece - e for b, e in zip(base, (0.5, 1.0, 1.5), strict=True)])
    assert dml.nll.gain.values == pytest.approx([b.nll - e / 10 for b, e in zip(base, (0.5, 1.0, 1.5), strict=True)])
    said = words(variants, runs)
    assert "All 4 students of dml together had 3.00 ± 1.00 % error, 3.00 points less than the network alone" in (
        "\n".join(said.beside)
    )
    assert not any("students of alone" in line for line in said.beside)
    write_numbers(tmp_path / "out", outcome, said, [], None, {})
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["beside"][2]["ensemble"]["gain"]["values"] == pytest.approx([3.0, 3.0, 3.0])
    assert "ensemble_error_percent_mean" in (tmp_path / "out" / "comparison.csv").read_text().splitlines()[0]
    page = write_report(tmp_path / "out", outcome, said, [], [r for of in runs.values() for r in of]).read_text()
    assert "What else a group gives</h2>" in page
    assert "3.00 ± 1.00" in page
