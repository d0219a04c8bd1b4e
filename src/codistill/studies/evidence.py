"""A study's numbers and verdicts as Markdown with an evidence header, and as CSV."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codistill.reports.csv_text import csv_text
from codistill.reports.numbers import MISSING, interval, mean_std, number, p_value
from codistill.rundir import Run, write_whole
from codistill.studies.across import HEADINGS, OVER_TASKS, Standing
from codistill.studies.claims import Finding
from codistill.studies.paper import reference
from codistill.studies.results import Number
from codistill.studies.study import Study
from codistill.studies.texts import (
    column_text,
    networks_text,
    printed_text,
    profile_text,
    reading_text,
    seeds_text,
    title_text,
)

__all__ = ["write_tables"]


def write_tables(
    study: Study,
    found: Sequence[Number],
    judged: Sequence[Finding],
    standing: Sequence[Standing],
    runs: Sequence[Run],
    out: Path,
    command: str,
) -> None:
    """Write table.md, numbers.csv, claims.csv and, where there are several tasks, across.csv."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "numbers.csv", csv_text([_number_record(study, n) for n in found]))
    write_whole(out / "claims.csv", csv_text([record for finding in judged for record in _claim_records(finding)]))
    if standing:
        write_whole(out / "across.csv", csv_text([_standing_record(s) for s in standing]))
    table = _markdown(study, found, judged, runs, command) + _standing_markdown(standing)
    write_whole(out / "table.md", table)


def _markdown(
    study: Study, found: Sequence[Number], judged: Sequence[Finding], runs: Sequence[Run], command: str
) -> str:
    lines = [
        f"# {title_text(study)}", "", "| evidence | |", "|---|---|",
        *(f"| {name} | {text} |" for name, text in _evidence(study, runs, command)), "",
        f"{profile_text(study)} {networks_text(study)}", "",
        *([reading_text(study), ""] if study.reading else []),
        f"| row | column | ours ({study.metric}, %) | 95 % interval | seeds | paper | difference to base | p, Holm |",
        "|---|---|---:|---:|---:|---:|---:|---:|", *map(_markdown_line, found), "",
        "The difference to the base is taken seed by seed and has its 95 % interval. † Fewer than 3 seeds.", "",
        *(f"- {choice}" for choice in study.choices), "", "## Claims", "",
        "| claim | verdict | comparisons |", "|---|---|---|",
    ]  # fmt: skip
    for finding in judged:
        if finding.measured:
            comparisons = "; ".join(
                f"{j.contrast.what}: {number(j.result.difference.mean, sign=True)}"
                f" ({interval(j.result.difference) or 'one seed'})"
                for j in finding.measured
                if j.result
            )
            lines.append(f"| {finding.claim.text} | {finding.verdict} | {comparisons} |")
    return "\n".join(lines) + "\n"


def _standing_markdown(standing: Sequence[Standing]) -> str:
    if not standing:
        return ""
    rows = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *(s.cells for s in standing)]
    lines = ["", "## Over networks and data sets", "", OVER_TASKS, "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _standing_record(standing: Standing) -> dict[str, Any]:
    return {"method": standing.method, **dataclasses.asdict(standing.across), "names": "; ".join(standing.tasks)}


def _markdown_line(n: Number) -> str:
    gap = n.paired.difference if n.paired else None
    against = f"{number(gap.mean, sign=True)} ({interval(gap) or 'one seed'})" if gap else MISSING
    cells = (
        n.row, column_text(n), mean_std(n.ours), interval(n.ours) or MISSING, seeds_text(n), printed_text(n), against,
        p_value(n.p_holm),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _evidence(study: Study, runs: Sequence[Run], command: str) -> list[tuple[str, str]]:
    done = [run.summary for run in runs if run.summary]
    facts = [("command", f"`{command}`"), ("reference", reference(study.paper))]
    if study.reading:
        facts.append(("reading", study.reading))
    if done:
        first = done[0]
        images = ", ".join(
            (
                f"{_span([s.images.train for s in done])} training",
                f"{_span([s.images.validation for s in done])} validation",
                f"{_span([s.images.test for s in done])} test images",
            )
        )
        facts += [
            ("data", f"{first.data}; {images}"),
            ("protocol", f"last epoch of {_span([s.epochs for s in done])}; the test set is read once"),
            ("seeds", ", ".join(str(seed) for seed in sorted({s.seed for s in done}))),
            ("runs", f"{len(done)} finished, {sum(s.seconds.training for s in done) / 3600:.1f} h of training"),
            ("machine", "; ".join(sorted({f"{s.machine.processor}, {s.machine.device}" for s in done}))),
            ("versions", ", ".join(f"{name} {version}" for name, version in first.versions.items())),
        ]
    return [*facts, ("date", datetime.datetime.now(datetime.timezone.utc).date().isoformat())]


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _number_record(study: Study, n: Number) -> dict[str, Any]:
    record: dict[str, Any] = {"study": study.name, "profile": study.profile, "reading": study.reading}
    record |= {"row": n.row, "column": n.column, "metric": n.metric, "seeds": len(n.values)}
    for name, e in (("ours", n.ours), ("selected", n.selected), ("against_base", n.paired and n.paired.difference)):
        record |= {f"{name}_{statistic}": e and getattr(e, statistic) for statistic in ("mean", "std", "low", "high")}
    record |= {"paper": n.printed and n.printed.value, "paper_std": n.printed and n.printed.std, "off": n.off}
    record |= {"p": n.paired and n.paired.p, "p_holm": n.p_holm, "effect_dz": n.paired and n.paired.effect}
    return record | {"values": " ".join(f"{seed}:{value!r}" for seed, value in sorted(n.values.items()))}


def _claim_records(finding: Finding) -> list[dict[str, Any]]:
    records = []
    for j in finding.judged:
        gap = j.result and j.result.difference
        records.append(
            {"claim": finding.claim.text, "verdict_of_claim": finding.verdict, "comparison": j.contrast.what}
            | {"claimed": j.contrast.expect, "verdict": j.verdict if gap else "no runs"}
            | {name: gap and getattr(gap, name) for name in ("mean", "low", "high", "n")}
            | {"p_holm": j.p_holm, "p_no_difference": j.p_same, "margin": j.contrast.margin}
        )
    return records
