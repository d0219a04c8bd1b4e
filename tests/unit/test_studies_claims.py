"""Claims are decided by the runs alone: each verdict on made-up numbers, and every place a real one."""

import pytest

from codistill.studies.catalog import find_study
from codistill.studies.claims import Claim, Contrast, difference, judge, slope
from codistill.studies.claims_kdcl import CLAIMS as KDCL
from codistill.studies.claims_okddip import CLAIMS as OKDDIP
from codistill.studies.profiles import PROFILES
from codistill.studies.results import Number, numbers

STUDY = "okddip/table2"
CLEAR, WEAK, NONE = (-1.0, -1.1, -0.9), (-1.1, -0.6, -0.7), (-1.0, 1.0, 0.1)
"""Differences of three seeds: p = .003, .035 and .97."""


def number(values):
    return Number("row", "column", "error", dict(values), None, None, None)


def places(**columns):
    """Numbers of one row; values by seed 0, 1, 2, ..."""
    return {(STUDY, "row", column): number(enumerate(values)) for column, values in columns.items()}


def below(better="ours", worse="theirs"):
    return difference("what", STUDY, ("row", better), ("row", worse), lower=True)


def verdict(differences, contrast=None):
    """The verdict on one comparison with these differences by seed."""
    theirs = [20.0 + 3 * seed for seed in range(len(differences))]
    ours = [base + gap for base, gap in zip(theirs, differences, strict=True)]
    return judge(Claim("claim", (contrast or below(),)), places(ours=ours, theirs=theirs)).verdict


def test_a_comparison_is_decided_by_the_sign_where_the_test_is_significant():
    assert verdict(CLEAR) == "confirmed"
    assert verdict([-gap for gap in CLEAR]) == "not confirmed"
    assert verdict(NONE) == "undecided"
    above = difference("what", STUDY, ("row", "ours"), ("row", "theirs"), lower=False)
    assert verdict(CLEAR, above) == "not confirmed"
    assert verdict([-gap for gap in CLEAR], above) == "confirmed"


def test_fewer_than_three_seeds_decide_nothing():
    assert verdict((-1.0, -1.0001)) == "undecided"
    assert verdict((-1.0,)) == "undecided"
    assert verdict((-1.0, -1.0001, -1.0002)) == "confirmed"


def test_equal_differences_admit_no_test():
    assert verdict((-1.0, -1.0, -1.0)) == "undecided"


def test_without_runs_a_claim_is_undecided_and_nothing_measured():
    finding = judge(Claim("claim", (below(),)), {})
    assert (finding.verdict, finding.measured, finding.judged[0].result) == ("undecided", (), None)
    empty = judge(Claim("claim", (below(),)), places(ours=(), theirs=(20.0, 21.0, 22.0)))
    assert (empty.verdict, empty.measured) == ("undecided", ())


def test_only_seeds_of_all_terms_count():
    found = places(theirs=(20.0, 21.0, 22.0, 25.0))
    found[STUDY, "row", "ours"] = number({1: 20.0, 2: 20.9, 3: 24.1, 7: 50.0})
    result = judge(Claim("claim", (below(),)), found).judged[0].result
    assert result.difference.values == pytest.approx((-1.0, -1.1, -0.9))


def test_comparisons_of_the_very_same_runs_are_one():
    """OKDDip's tables 1 and 2 are both of digits under `smoke`, and share their runs."""
    study1, study2 = (find_study(f"okddip/table{n}", "smoke") for n in (1, 2))
    found = {(s.name, n.row, n.column): n for s in (study1, study2) for n in numbers(s, {})}
    ind = next(claim for claim in OKDDIP if claim.text == "The group leader of branches beats independent branches.")
    assert [j.contrast.what for j in judge(ind, found).judged] == [
        f"okddip branch against ind, {row}, table1" for row in study1.rows
    ]
    cpu = [find_study(f"okddip/table{n}", "cpu") for n in (1, 2)]
    found = {(s.name, n.row, n.column): n for s in cpu for n in numbers(s, {})}
    assert len(judge(ind, found).judged) == 2 * len(study1.rows)


def test_p_values_are_corrected_for_the_comparisons_of_the_claim():
    theirs = (20.0, 20.0, 20.0)
    found = places(theirs=theirs, weak=[20 + gap for gap in WEAK], same=[20 + gap for gap in WEAK])
    alone = judge(Claim("claim", (below("weak"),)), found)
    assert alone.verdict == "confirmed"
    assert alone.judged[0].p_holm == pytest.approx(0.0346, abs=1e-4)
    both = judge(Claim("claim", (below("weak"), below("same"))), found)
    assert both.verdict == "undecided"
    assert [j.p_holm for j in both.judged] == pytest.approx([0.0692, 0.0692], abs=1e-4)


def test_a_claim_needs_all_its_measured_comparisons_and_falls_with_one():
    theirs = (20.0, 20.0, 20.0)
    found = places(
        theirs=theirs,
        better=[20 + gap for gap in CLEAR],
        worse=[20 - gap for gap in CLEAR],
        open=[20 + gap for gap in NONE],
    )

    def of(*columns):
        return judge(Claim("claim", tuple(below(column) for column in columns)), found)

    assert of("better", "better").verdict == "confirmed"
    assert of("better", "open").verdict == "undecided"
    assert of("better", "open", "worse").verdict == "not confirmed"
    partly = of("better", "missing")
    assert partly.verdict == "confirmed"
    assert [j.verdict for j in partly.judged] == ["confirmed", "undecided"]
    assert len(partly.measured) == 1


SMALL = (0.04, -0.05, 0.01)
"""Differences of three seeds around none."""


def test_no_difference_is_a_verdict_of_its_own():
    assert verdict(SMALL) == "no difference"
    assert verdict([5 * gap for gap in SMALL]) == "undecided"
    # Small, and sure: the sign decides.
    assert verdict((-0.10, -0.11, -0.09)) == "confirmed"


def test_a_claim_makes_no_difference_if_nothing_else_is_open():
    theirs = (20.0, 20.0, 20.0)
    columns = {"better": CLEAR, "worse": [-gap for gap in CLEAR], "same": SMALL, "open": NONE}
    found = places(theirs=theirs, **{name: [20 + gap for gap in gaps] for name, gaps in columns.items()})

    def of(*columns):
        return judge(Claim("claim", tuple(below(column) for column in columns)), found).verdict

    assert of("same") == of("same", "better") == "no difference"
    assert of("same", "open") == "undecided"
    assert of("same", "worse") == "not confirmed"


def test_the_p_values_of_no_difference_are_corrected_too():
    theirs = (20.0, 20.0, 20.0)
    found = places(theirs=theirs, **{name: [20 + 2.2 * gap for gap in SMALL] for name in ("a", "b", "c")})
    alone = judge(Claim("claim", (below("a"),)), found).judged[0]
    three = judge(Claim("claim", (below("a"), below("b"), below("c"))), found).judged[0]
    assert three.p_same == pytest.approx(3 * alone.p_same)
    assert (alone.verdict, three.verdict) == ("no difference", "undecided")


def test_the_margin_of_a_slope_is_that_of_a_number_over_its_range():
    assert slope("x", STUDY, "row", ["2", "4", "8"], lower=True).margin == pytest.approx(0.3 / 6)


def test_near_asks_for_an_interval_inside_the_margin():
    near = Contrast("what", below().terms, "near", margin=0.5)
    # The interval is the mean ± 2.48 times the deviation of three seeds.
    assert verdict((0.1, 0.0, -0.1), near) == "confirmed"
    assert verdict((2.0, 2.1, 1.9), near) == "not confirmed"
    assert verdict((-2.0, -2.1, -1.9), near) == "not confirmed"
    assert verdict((0.3, 0.5, 0.4), near) == "undecided"
    assert verdict((0.0, 0.0, 0.0), near) == "confirmed"
    assert verdict((0.0, 0.0), near) == "undecided"


def test_the_slope_is_the_least_squares_one():
    sizes = ["2", "3", "4", "6", "8"]
    contrast = slope("a student", STUDY, "row", sizes, lower=True)
    # Around the mean size 4.6 the squares sum to 23.2, and the products with these errors to -7.44.
    errors = (30.0, 29.0, 28.5, 28.0, 27.9)
    found = {(STUDY, "row", m): number({0: e, 1: e + 1, 2: e - 5}) for m, e in zip(sizes, errors, strict=True)}
    result = judge(Claim("claim", (contrast,)), found).judged[0].result
    assert result.difference.values == pytest.approx((-7.44 / 23.2,) * 3)
    assert contrast.expect == "below"
    line = slope("a student", STUDY, "row", ["1", "2", "3"], lower=False)
    assert [weight for weight, _ in line.terms] == pytest.approx([-0.5, 0.0, 0.5])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("paper", "claims"), [("okddip", OKDDIP), ("kdcl", KDCL)])
def test_every_claim_rests_on_numbers_that_the_studies_have(profile, paper, claims):
    places = {place for claim in claims for contrast in claim.contrasts for _, place in contrast.terms}
    assert {study.partition("/")[0] for study, _, _ in places} == {paper}
    for name in {study for study, _, _ in places}:
        entries = {(name, e.row, e.column): e for e in find_study(name, profile).entries}
        asked = {place for place in places if place[0] == name}
        assert asked <= entries.keys()
        assert {entries[place].what for place in asked} == {"top1_error"}


def test_every_claim_says_the_side_that_is_better():
    for paper, claims in (("okddip", OKDDIP), ("kdcl", KDCL)):
        for contrast in (c for claim in claims for c in claim.contrasts):
            side = "below" if paper == "okddip" else "above"
            assert contrast.expect in (side, "near"), contrast.what
            assert sum(weight for weight, _ in contrast.terms) == pytest.approx(0.0)
    assert len({claim.text for claim in (*OKDDIP, *KDCL)}) == len(OKDDIP) + len(KDCL)


def test_the_leader_beats_its_rivals_in_all_three_tables():
    texts = {claim.text: claim for claim in OKDDIP}
    dml = texts["The group leader beats DML."].contrasts
    assert {(c.terms[0][1], c.terms[1][1]) for c in dml} == {
        ((f"okddip/{table}", row, "okddip_network"), (f"okddip/{table}", row, "dml"))
        for table, rows in (
            ("table1", ("densenet40_12", "resnet32", "vgg16", "resnet110", "wrn20_8")),
            ("table2", ("densenet40_12", "resnet32", "vgg16", "resnet110", "wrn20_8")),
            ("table3", ("resnet34",)),
        )
        for row in rows
    }
    assert len(texts["The group leader has a lower error than the same network trained alone."].contrasts) == 22


def test_branches_are_compared_with_branches_and_networks_with_networks():
    rivals = {
        (ours[2], theirs[2])
        for claim in OKDDIP
        if claim.text.startswith("The group leader")
        for (_, ours), (_, theirs) in (contrast.terms for contrast in claim.contrasts)
    }
    # A group's leader, once deployed, is the very network that is trained alone.
    assert rivals == {
        ("okddip_network", "baseline"), ("okddip_network", "dml"), ("okddip_branch", "baseline"),
        ("okddip_branch", "ind"), ("okddip_branch", "cl_ilr"), ("okddip_branch", "one"),
    }  # fmt: skip
    study = find_study("okddip/table2", "paper")
    for ours, theirs in rivals - {("okddip_branch", "baseline")}:
        groups = {study.variants[f"resnet32/{column}"].config.group for column in (ours, theirs)}
        assert len(groups) == 1, (ours, theirs)


def test_ensembles_are_compared_with_that_of_independent_branches():
    (claim,) = (c for c in OKDDIP if c.text == "OKDDip's ensemble of branches beats that of independent branches.")
    assert {(c.terms[0][1], c.terms[1][1]) for c in claim.contrasts} == {
        (("okddip/table4", row, "okddip_branch"), ("okddip/table4", row, "ind"))
        for row in ("vgg16", "resnet32", "resnet110")
    }
    assert find_study("okddip/table4", "paper").variants["vgg16/ind"].config.group == "branches"


def test_the_large_network_is_compared_with_itself_alone():
    (claim,) = (c for c in KDCL if c.text == "The large network gains from small ones.")
    for contrast in claim.contrasts:
        (_, (study, row, column)), (_, base) = contrast.terms
        assert column == ("top1_1" if study == "kdcl/table4" else "resnet50")
        alone = "resnet50 + mobilenetv2_x0.5, vanilla" if study == "kdcl/table4" else "vanilla"
        assert base == (study, alone, column)
        assert study != "kdcl/table4" or row.startswith("resnet50 + mobilenetv2_x0.5*, ")
