"""The papers' numbers: as printed, consistent in themselves, and each with a place in a study."""

import pytest

from codistill.studies.catalog import STUDIES, find_study
from codistill.studies.paper import Printed, pairs, printed_table

PRINTED = {
    ("okddip/table1", "densenet40_12", "okddip_network"): Printed(5.94, 0.05),
    ("okddip/table1", "resnet110", "dml"): Printed(5.68, 0.03),
    ("okddip/table1", "wrn20_8", "okddip_branch"): Printed(5.06, 0.04),
    ("okddip/table2", "resnet32", "baseline"): Printed(28.76, 0.08),
    ("okddip/table2", "resnet32", "one"): Printed(26.50, 0.13),
    ("okddip/table2", "resnet32", "okddip_network"): Printed(25.40, 0.08),
    ("okddip/table2", "wrn20_8", "baseline"): Printed(22.50, 0.44),
    ("okddip/table3", "resnet34", "okddip_branch"): Printed(25.60),
    ("okddip/table4", "resnet32", "okddip_branch"): Printed(23.45),
    ("okddip/table4", "vgg16", "ind"): Printed(25.62),
    ("okddip/table5", "resnet32", "random"): Printed(28.24, 0.16),
    ("okddip/table5", "resnet32", "no_two_level"): Printed(27.79, 0.14),
    ("kdcl/table2", "dml", "gain"): Printed(-0.5),
    ("kdcl/table2", "kdcl_linear", "resnet50"): Printed(77.8),
    ("kdcl/table2", "one", "resnet50"): None,
    ("kdcl/table3", "clnn_4_heads", "params_m"): Printed(40.5),
    ("kdcl/table3", "kdcl_resnet50", "top5"): Printed(91.2),
    ("kdcl/table4", "resnet50 + mobilenetv2_x0.5*, linear", "top1_1"): Printed(77.5),
    ("kdcl/table4", "resnet50* + resnet18*, minlogit", "top1_2"): Printed(72.1),
    ("kdcl/table5", "resnet18", "5"): Printed(71.87),
    ("kdcl/table6", "kdcl", "mobilenetv2_x0.5"): Printed(66.9),
    ("kdcl/table7", "2_distill_1", "resnet32"): Printed(73.3),
    ("kdcl/table7", "kdcl_general_icl", "wrn16_2"): Printed(75.5),
    ("kdcl/table7", "clnn", "gain"): None,
}
MEASUREMENTS = {
    "okddip/table1": 35, "okddip/table2": 35, "okddip/table3": 6, "okddip/table4": 12, "okddip/table5": 6,
    "okddip/figure3": 0, "kdcl/table2": 23, "kdcl/table3": 15, "kdcl/table4": 30, "kdcl/table5": 5, "kdcl/table6": 10,
    "kdcl/table7": 38,
}  # fmt: skip
"""How many numbers every table prints, gains included."""

OURS = {
    "okddip/table1": ("ind_networks",), "okddip/table2": ("ind_networks",),
    "okddip/table4": (
        "ind_networks", "cl_ilr_softmax", "one_softmax", "okddip_branch_softmax", "ind_softmax",
        "ind_networks_softmax", "one_gate",
    ),
}  # fmt: skip
"""Columns for which the paper prints nothing."""

ROWS_OF_TABLE7 = [
    "vanilla", "2_distill_1", "1_distill_2", "dml", "one", "clnn", "kdcl_naive", "kdcl_naive_icl", "kdcl_linear",
    "kdcl_linear_icl", "kdcl_minlogit", "kdcl_minlogit_icl", "kdcl_general", "kdcl_general_icl",
]  # fmt: skip


def table_of(name):
    return printed_table(*name.split("/"))


@pytest.mark.parametrize("place", PRINTED, ids="-".join)
def test_a_number_is_as_printed(place):
    study, row, column = place
    assert table_of(study).number(row, column) == PRINTED[place]


def test_every_table_has_all_its_numbers_and_nothing_else():
    assert {name: len(table_of(name).cells) for name in STUDIES} == MEASUREMENTS


def test_check_marks_and_names_are_no_numbers():
    assert ("kdcl_naive_icl", "icl") not in table_of("kdcl/table7").cells
    assert {column for _, column in table_of("kdcl/table4").cells} == {"top1_1", "top1_2"}
    assert pairs()[10] == ["resnet50", 77.5, "mobilenetv2_x0.5*", 67.1, "linear"]


@pytest.mark.parametrize(("name", "networks"), [("kdcl/table2", 2), ("kdcl/table6", 4), ("kdcl/table7", 2)])
def test_a_printed_gain_is_the_sum_of_the_improvements(name, networks):
    table = table_of(name)
    columns = [c for c in table.columns if c not in ("icl", "gain")]
    assert len(columns) == networks
    assert find_study(name, "paper").gain == tuple(columns)
    gains = {row: n.value for (row, column), n in table.cells.items() if column == "gain"}
    assert len(gains) >= 2
    for row, gain in gains.items():
        improvements = [table.cells[row, c].value - table.cells["vanilla", c].value for c in columns]
        assert sum(improvements) == pytest.approx(gain, abs=0.01), row


@pytest.mark.parametrize("name", STUDIES)
def test_every_printed_number_has_an_entry_and_every_entry_a_number_or_a_column_of_ours(name):
    study, table = find_study(name, "paper"), table_of(name)
    entries = [(entry.row, entry.column) for entry in study.entries]
    assert len(set(entries)) == len(entries)
    assert study.metric == table.metric
    measured = {place for place in table.cells if place[1] != "gain"}
    ours = OURS.get(name, ())
    if name == "okddip/figure3":
        assert not measured
        assert entries == [("resnet32", m) for m in ("2", "3", "4", "6", "8")]
    else:
        assert {place for place in entries if place[1] not in ours} == measured
        assert {place for place in entries if place[1] in ours} == {(r, c) for r in study.rows for c in ours}
        assert not [place for place in table.cells if place[1] in ours]


def test_rows_stand_in_the_order_of_the_paper():
    assert list(find_study("kdcl/table7", "paper").rows) == ROWS_OF_TABLE7
    networks = ("densenet40_12", "resnet32", "vgg16", "resnet110", "wrn20_8")
    assert find_study("okddip/table2", "cpu").rows == networks
    rows = find_study("kdcl/table4", "smoke").rows
    assert len(rows) == 15
    assert rows[:2] == ("mobilenetv2 + mobilenetv2_x0.5, vanilla", "mobilenetv2 + mobilenetv2_x0.5, linear")


def test_titles_say_what_ind_is_and_whose_length_is_stated():
    assert "(ind: individual branches)" in table_of("okddip/table4").title
    title = table_of("kdcl/table4").title
    assert "mobilenetv2* and mobilenetv2_x0.5* 200" in title
    assert "200 unless given" not in title
