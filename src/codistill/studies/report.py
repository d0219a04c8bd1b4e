"""The report of a study: its numbers next to the paper's, the paper's claims, and every run below."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from codistill.errors import UserError
from codistill.reports import Comparison, compare, write_csv
from codistill.reports.comparison import FEW_SEEDS
from codistill.reports.details import Grid, GridCell
from codistill.reports.numbers import interval, mean_std, number, p_value
from codistill.reports.page import write_page
from codistill.reports.picture import Picture
from codistill.reports.preface import Preface, Statement
from codistill.reports.tables import FEW_MARK
from codistill.rundir import REPORT, Run
from codistill.studies.across import HEADINGS, OVER_TASKS, Standing, standings
from codistill.studies.claims import MARGIN, SAME, Finding, Judged, Place, judge
from codistill.studies.claims_kdcl import CLAIMS as KDCL
from codistill.studies.claims_okddip import CLAIMS as OKDDIP
from codistill.studies.evidence import write_tables
from codistill.studies.group_size_curve import group_size_picture
from codistill.studies.paper import reference
from codistill.studies.results import Number, Runs, numbers
from codistill.studies.study import Study
from codistill.studies.texts import (
    column_text,
    few_seeds,
    networks_text,
    printed_text,
    profile_text,
    reading_text,
    seeds_text,
    title_text,
)

__all__ = ["findings", "number_grid", "write_study_report"]

CLAIMS = {"okddip": OKDDIP, "kdcl": KDCL}
KINDS = {"confirmed": "yes", "not confirmed": "no"}
RULE = (
    "A comparison is decided at p < 0.05 by the paired t-test over at least three seeds, after Holm’s correction for "
    "the comparisons of its claim. A claim is confirmed if all its measured comparisons are, and not confirmed if one "
    "is decided the other way. Where a difference is not decided, two one-sided tests can show that it is smaller "
    f"than {MARGIN:g} points either way (sums over students: {MARGIN:g} for each): “{SAME}”. That is also the verdict "
    "on a claim whose other comparisons are confirmed. All others are undecided."
)


def write_study_report(study: Study, runs: Runs, places: Mapping[Place, Number], out: Path, command: str) -> Path:
    """Write report.html, table.md and the CSV files of a study.

    Args:
        study: what was asked for.
        runs: variant -> its runs, finished or not.
        places: the numbers of all studies of the paper, by which its claims are judged.
        out: folder to write to.
        command: what the user typed, for the evidence header.

    Returns:
        The HTML file.

    Raises:
        UserError: the folder cannot be written to, or no run has begun.
    """
    found = numbers(study, runs)
    judged = findings(study.paper, places)
    begun = [run for of_variant in runs.values() for run in of_variant]
    # Variants can share a run directory.
    begun = list({run.directory: run for run in begun}.values())
    comparison = _comparison(study, runs)
    write_csv(comparison, out)
    standing = standings(study.paper, places)
    write_tables(study, found, judged, standing, begun, out, command)
    prefaces = [_notice(study), _compared_with_the_paper(study, found), _claims(judged)]
    prefaces += [_over_tasks(standing)] if standing else []
    return write_page(comparison, out / REPORT, title_text(study), prefaces)


def findings(paper: str, places: Mapping[Place, Number]) -> list[Finding]:
    """Judge the claims of a paper."""
    return [judge(claim, places) for claim in CLAIMS[paper]]


def number_grid(found: Sequence[Number]) -> Grid:
    """Return the table of the study, one line per number."""
    headings = [
        "Row", "Column", "Ours", "95 % interval", "Seeds", "Paper", "Ours − paper", "Difference to base",
        "95 % interval", "p, Holm", "d_z", "Ours, selected epoch",
    ]  # fmt: skip
    return Grid(headings, [[GridCell(text) for text in _line(n)] for n in found], names=2)


def _line(n: Number) -> list[str]:
    gap = n.paired.difference if n.paired else None
    return [
        n.row, column_text(n), mean_std(n.ours), interval(n.ours), seeds_text(n), printed_text(n),
        number(n.off, sign=True), number(gap.mean if gap else None, sign=True), interval(gap), p_value(n.p_holm),
        number(n.paired.effect if n.paired else None, 1), mean_std(n.selected),
    ]  # fmt: skip


def _notice(study: Study) -> Preface:
    text = [line for line in (profile_text(study), reading_text(study)) if line]
    if study.profile != "paper":
        text.append(
            "The paper’s numbers were measured on other data with larger networks and are shown for orientation. Only "
            "the differences between methods can be compared, not the numbers."
        )
        text.append(networks_text(study))
    return Preface("", text, notice=True)


def _compared_with_the_paper(study: Study, found: Sequence[Number]) -> Preface:
    text = [f"{reference(study.paper)}. Top-1 {study.metric} in percent on the test images, last epoch, over seeds."]
    if study.gain:
        text.append("Gain: the sum over the networks of their accuracy minus that of the same network trained alone.")
    pictures: list[Picture] = []
    if all(column.isdigit() for column in study.columns) and (picture := group_size_picture(study, found)):
        pictures.append(picture)
    notes = [
        "The base is the network trained alone; for ensembles the ensemble of independent branches, for ablations the "
        "full method, for sizes of the group the smallest one. The difference to it is taken seed by seed. p is from "
        "the paired t-test after Holm’s correction for the whole table. d_z is the mean difference divided by the "
        "standard deviation of the differences."
    ]
    if any(map(few_seeds, found)):
        notes.append(f"{FEW_MARK} Fewer than {FEW_SEEDS} finished seeds: this number supports no conclusion.")
    notes += study.choices
    return Preface("Compared with the paper", text, grid=number_grid(found), pictures=pictures, notes=notes)


def _claims(judged: Sequence[Finding]) -> Preface:
    statements = [
        Statement(f.claim.text, f.verdict, KINDS.get(f.verdict, "open"), _summary(f), _contrasts(f.measured))
        for f in judged
    ]
    return Preface("The paper's claims", [RULE], statements=statements)


def _summary(finding: Finding) -> str:
    measured = finding.measured
    if not measured:
        count = len(finding.judged)
        return "no runs yet for its comparison" if count == 1 else f"no runs yet for its {count} comparisons"
    counts = {v: sum(j.verdict == v for j in measured) for v in ("confirmed", "not confirmed", SAME, "undecided")}
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    missing = len(finding.judged) - len(measured)
    return verdicts + (f"; no runs yet for {missing} of {len(finding.judged)} comparisons" if missing else "")


def _contrasts(judged: Sequence[Judged]) -> Grid:
    sides = {"below": "below 0", "above": "above 0", "near": "near 0"}
    lines = []
    for j in judged:
        assert j.result is not None
        gap = j.result.difference
        side = sides[j.contrast.expect] + (f" (± {j.contrast.margin:g})" if j.contrast.expect == "near" else "")
        texts = [j.contrast.what, side, number(gap.mean, sign=True), interval(gap), p_value(j.p_holm)]
        texts += [p_value(j.p_same), f"{j.contrast.margin:.2g}", str(gap.n)]
        lines.append([GridCell(text) for text in [*texts, j.verdict]])
    headings = [
        "Comparison", "Claimed", "Measured, points", "95 % interval", "p, Holm", "p, no difference", "Margin", "Seeds",
        "Verdict",
    ]  # fmt: skip
    return Grid(headings, lines, names=2)


def _over_tasks(standing: Sequence[Standing]) -> Preface:
    grid = Grid(list(HEADINGS), [[GridCell(text) for text in s.cells] for s in standing])
    return Preface("Over networks and data sets", [OVER_TASKS], grid=grid)


def _comparison(study: Study, runs: Runs) -> Comparison:
    """Compare the runs under each heading with their own baseline."""
    by_heading: dict[str, dict[Path, Run]] = {}
    for name, variant in study.variants.items():
        by_heading.setdefault(variant.heading, {}).update({run.directory: run for run in runs[name]})
    tables = []
    for heading, members in by_heading.items():
        if members:
            compared = compare(list(members.values()))
            tables += [dataclasses.replace(table, heading=heading) for table in compared.tables]
    if not tables:
        raise UserError(f"{study.name} has no runs to compare: run it first, without --dry-run.")
    return Comparison(tuple(tables))
