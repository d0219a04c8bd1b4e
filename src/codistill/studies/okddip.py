"""The experiments of OKDDip (AAAI 2020): tables 1 to 5 and figure 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from codistill.studies.paper import printed_table
from codistill.studies.profiles import Profile
from codistill.studies.readings import find_reading
from codistill.studies.study import Entry, Study, Variant
from codistill.training import Config

__all__ = ["STUDIES"]

GROUP_SIZES = (2, 3, 4, 6, 8)
BRANCHES = {"group": "branches"}
COLUMNS: dict[str, dict[str, Any]] = {
    "baseline": {"method": "baseline", "peers": 1},
    "ind": {"method": "ind", **BRANCHES},
    "ind_networks": {"method": "ind"},
    "dml": {"method": "dml"},
    "cl_ilr": {"method": "cl_ilr", **BRANCHES},
    "one": {"method": "one", **BRANCHES},
    "okddip_network": {"method": "okddip"},
    "okddip_branch": {"method": "okddip", **BRANCHES},
    # All four students are auxiliary peers; table 4 scores their ensemble.
    "okddip_peers": {"method": "okddip", **BRANCHES, "method_options": {"ablation": "no_two_level"}},
    **{
        ablation: {"method": "okddip", **BRANCHES, "method_options": {"ablation": ablation}}
        for ablation in ("random", "entropy", "mean", "asymmetry")
    },
    # The slides remove the leader, so one student fewer is trained.
    "no_two_level": {"method": "okddip", **BRANCHES, "peers": 3, "method_options": {"ablation": "no_two_level"}},
}
"""Column of the tables -> the settings that it changes; groups have four students unless it says otherwise. The reading
adds its own options."""

LABELS = {
    "ind": "ind, branches",
    "ind_networks": "ind, networks",
    "okddip_network": "okddip, networks",
    "okddip_branch": "okddip, branches",
    "okddip_peers": "okddip, four peers",
}
FOUR = "Every group has four students; in OKDDip one of them is the leader."
HEADLINE = "Methods without a leader are scored by the mean of their students, OKDDip by its leader."
IND = "ind are individual branches, as in the paper; ind_networks are independent networks, a column of ours."
LOGITS = (
    "The columns with the paper's numbers are the ensemble by the mean of logits of all four students, which is what "
    "the code of the paper's authors scores, for ONE too. Columns of ours score the same runs in other ways and are "
    "not tested: _softmax is the ensemble by the mean of softmax outputs, one_gate is ONE's own ensemble, weighted by "
    "its gate."
)
LEADERLESS = (
    "In OKDDip's ensemble one more auxiliary peer takes the leader's place (no_two_level with four peers), so that "
    "every ensemble has four members."
)
ENTROPY = "The entropy ablation has a weight of 0.1; the paper prints none."
NO_LEADER = (
    "no_two_level trains one student fewer: the leader is removed, three auxiliary peers stay, and one of them, drawn "
    "at the start, is deployed and scored. Table 4's ensemble, in contrast, keeps four."
)


def tables(profile: Profile, name: str) -> Study:
    """Return tables 1 to 3: every method on every network."""
    printed = printed_table("okddip", name)
    columns = list(printed.columns)
    if "ind" in columns:
        columns.insert(columns.index("ind") + 1, "ind_networks")
    variants, entries = _variants(profile, name, columns), []
    for row, column in _cells(name, columns):
        base = None if column == "baseline" else (row, "baseline")
        entries.append(Entry(row, column, f"{row}/{column}", base=base))
    return _study(profile, name, variants, entries, FOUR, HEADLINE, *([IND] if "ind" in columns else []))


def table4(profile: Profile) -> Study:
    """Return table 4: the error of the ensembles, by the mean of logits and in other ways."""
    name = "table4"
    columns = [*printed_table("okddip", name).columns, "ind_networks"]
    trained = {column: column for column in columns} | {"okddip_branch": "okddip_peers"}
    variants, entries = _variants(profile, name, list(trained.values())), []
    for row, column in _cells(name, [*columns, *(f"{column}_softmax" for column in columns), "one_gate"]):
        of = column.removesuffix("_softmax").removesuffix("_gate")
        who = "ensemble_logits" if column in columns else "ensemble_own" if column == "one_gate" else "ensemble"
        base = (row, "ind") if column in columns and column != "ind" else None
        entries.append(Entry(row, column, f"{row}/{trained[of]}", who, base=base))
    return _study(profile, name, variants, entries, LOGITS, LEADERLESS, IND)


def table5(profile: Profile) -> Study:
    """Return table 5: the ablations."""
    name, full = "table5", "okddip_branch"
    columns = printed_table("okddip", name).columns
    entries = [
        Entry(row, column, f"{row}/{column}", base=None if column == full else (row, full))
        for row, column in _cells(name, columns)
    ]
    return _study(profile, name, _variants(profile, name, columns), entries, FOUR, NO_LEADER, ENTROPY)


def figure3(profile: Profile) -> Study:
    """Return figure 3: the leader's error over the size of the group."""
    base = profile.settings("okddip", printed_table("okddip", "figure3").dataset)
    row, variants, entries = "resnet32", {}, []
    for m in GROUP_SIZES:
        variant = _variant(base, profile, row, "okddip_branch")
        # The group of four is also in the other tables: with the same label it shares their runs.
        label = LABELS["okddip_branch"] if m == 4 else f"okddip, branches, m = {m}"
        variants[f"{row}/{m}"] = replace(variant, config=replace(variant.config, peers=m, label=label))
        entries.append(Entry(row, str(m), f"{row}/{m}", base=None if m == 2 else (row, "2")))
    sizes = f"Group sizes {', '.join(map(str, GROUP_SIZES))}; the paper prints a curve without numbers."
    return _study(profile, "figure3", variants, entries, sizes)


def _cells(name: str, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return every row of a printed table with each of these columns."""
    rows = dict.fromkeys(row for row, _ in printed_table("okddip", name).cells)
    return ((row, column) for row in rows for column in columns)


def _variants(profile: Profile, name: str, columns: Sequence[str]) -> dict[str, Variant]:
    settings = profile.settings("okddip", printed_table("okddip", name).dataset)
    return {f"{row}/{column}": _variant(settings, profile, row, column) for row, column in _cells(name, columns)}


def _study(
    profile: Profile, table: str, variants: dict[str, Variant], entries: Sequence[Entry], *choices: str
) -> Study:
    networks = {entry.row: profile.network(entry.row) for entry in entries}
    title = printed_table("okddip", table).title
    return Study(
        f"okddip/{table}", profile.name, title, "error", variants, tuple(entries), networks=networks, choices=choices,
        reading=profile.reading,
    )  # fmt: skip


def _variant(base: Config, profile: Profile, row: str, column: str) -> Variant:
    reading, changes = find_reading(profile.reading), COLUMNS[column]
    options = reading.method_options(changes["method"], row) | changes.get("method_options", {})
    config = replace(base, model=(profile.network(row),), peers=4, label=LABELS.get(column, column.replace("_", " ")))
    return Variant(row, replace(config, **{**reading.settings, **changes, "method_options": options}))


STUDIES = {
    **{f"okddip/{name}": lambda profile, name=name: tables(profile, name) for name in ("table1", "table2", "table3")},
    "okddip/table4": table4,
    "okddip/table5": table5,
    "okddip/figure3": figure3,
}
