"""The experiments of OKDDip (AAAI 2020): tables 1 to 5 and figure 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codistill.studies.paper import printed_table
from codistill.studies.profiles import Profile
from codistill.studies.study import Entry, Study, Variant
from codistill.training import Config

__all__ = ["STUDIES"]

GROUP_SIZES = (2, 3, 4, 6, 8)
T = {"temperature": 3.0}
COLUMNS: dict[str, dict[str, Any]] = {
    "baseline": {"method": "baseline", "peers": 1},
    "ind": {"method": "ind"},
    "dml": {"method": "dml", "method_options": {**T, "target": "mean"}},
    "cl_ilr": {"method": "cl_ilr", "group": "branches"},
    "one": {"method": "one", "group": "branches"},
    "okddip_network": {"method": "okddip"},
    "okddip_branch": {"method": "okddip", "group": "branches"},
    **{
        ablation: {"method": "okddip", "group": "branches", "method_options": {"ablation": ablation}}
        for ablation in ("random", "entropy", "mean", "asymmetry", "no_two_level")
    },
}
"""A column of the tables -> what it changes in the settings; four students where nothing else is said."""

LABELS = {"okddip_network": "okddip, networks", "okddip_branch": "okddip, branches"}
FOUR = "Every group has four students; in OKDDip one of them is the leader."
HEADLINE = "Methods without a leader are scored by the mean of their students, OKDDip by its leader."
LEADERLESS = "In OKDDip's ensemble a peer takes the leader's place, as in its ablation no_two_level."
DML = "DML as in the comparison of OKDDip's authors: the target is the mean of the others at T = 3."


def tables(profile: Profile, name: str) -> Study:
    """Tables 1 to 3: every method on every network."""
    return _study(profile, name, *_grid(profile, name, "baseline", "headline"), FOUR, HEADLINE, DML)


def table4(profile: Profile) -> Study:
    """Table 4: the error of the ensembles."""
    ensemble = "The ensemble is the mean of the softmax outputs of all four students; for ONE, what its gate weighs."
    return _study(profile, "table4", *_grid(profile, "table4", "ind", "ensemble"), ensemble, LEADERLESS)


def _grid(profile: Profile, name: str, base: str, who: str) -> tuple[dict[str, Variant], list[Entry]]:
    """Every column of a printed table for every row, compared with the column `base`."""
    printed = printed_table("okddip", name)
    settings = profile.settings("okddip", printed.dataset)
    variants, entries = {}, []
    for row in dict.fromkeys(row for row, _ in printed.cells):
        for column in printed.columns:
            key = f"{row}/{column}"
            leaderless = (column, who) == ("okddip_branch", "ensemble")
            variants[key] = _variant(settings, profile, row, "no_two_level" if leaderless else column)
            own = "ensemble_own" if (column, who) == ("one", "ensemble") else who
            entries.append(Entry(row, column, key, own, base=None if column == base else (row, base)))
    return variants, entries


def table5(profile: Profile) -> Study:
    """Table 5: the ablations."""
    printed = printed_table("okddip", "table5")
    base = profile.settings("okddip", printed.dataset)
    row, full = "resnet32", "okddip_branch"
    variants = {f"{row}/{column}": _variant(base, profile, row, column) for column in printed.columns}
    entries = [
        Entry(row, column, f"{row}/{column}", base=None if column == full else (row, full))
        for column in printed.columns
    ]
    entropy = "The entropy ablation weighs the entropy by 0.1; the paper prints no weight."
    return _study(profile, "table5", variants, entries, FOUR, entropy)


def figure3(profile: Profile) -> Study:
    """Figure 3: the leader's error over the size of the group."""
    printed = printed_table("okddip", "figure3")
    base = profile.settings("okddip", printed.dataset)
    row, variants, entries = "resnet32", {}, []
    for m in GROUP_SIZES:
        variant = _variant(base, profile, row, "okddip_branch")
        # Four branches are the variant of the other tables, and its runs are theirs.
        label = LABELS["okddip_branch"] if m == 4 else f"okddip, branches, m = {m}"
        variants[f"{row}/{m}"] = replace(variant, config=replace(variant.config, peers=m, label=label))
        entries.append(Entry(row, str(m), f"{row}/{m}", base=None if m == 2 else (row, "2")))
    sizes = f"Group sizes {', '.join(map(str, GROUP_SIZES))}; the paper prints a curve without numbers."
    return _study(profile, "figure3", variants, entries, sizes)


def _study(
    profile: Profile, table: str, variants: dict[str, Variant], entries: Sequence[Entry], *choices: str
) -> Study:
    networks = {entry.row: profile.network(entry.row) for entry in entries}
    title = printed_table("okddip", table).title
    return Study(
        f"okddip/{table}", profile.name, title, "error", variants, tuple(entries), networks=networks, choices=choices
    )


def _variant(base: Config, profile: Profile, row: str, column: str) -> Variant:
    config = replace(base, model=(profile.network(row),), peers=4)
    config = replace(config, **COLUMNS[column], label=LABELS.get(column, column.replace("_", " ")))
    return Variant(row, config)


STUDIES = {
    **{f"okddip/{name}": lambda profile, name=name: tables(profile, name) for name in ("table1", "table2", "table3")},
    "okddip/table4": table4,
    "okddip/table5": table5,
    "okddip/figure3": figure3,
}
