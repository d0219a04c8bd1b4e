"""What a comparison writes: comparison.json, comparison.csv and report.html, each whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codistill.compare.beside import Beside, beside
from codistill.compare.latency import Speed
from codistill.compare.outcome import Gain, Outcome, Result
from codistill.compare.plan import KIND, RECORD
from codistill.compare.tuning import Choice
from codistill.compare.variants import ALONE
from codistill.compare.words import (
    NOUNS,
    beside_lines,
    cost_lines,
    deploy_lines,
    equal_lines,
    how_counted,
    tuning_lines,
    verdict_lines,
)
from codistill.reports import compare
from codistill.reports.csv_text import csv_text
from codistill.reports.details import Grid, GridCell
from codistill.reports.numbers import MISSING, count, interval, mean_std, number, p_value
from codistill.reports.page import write_page
from codistill.reports.preface import Preface
from codistill.reports.statistics import Estimate
from codistill.rundir import FORMAT, REPORT, Run, write_json, write_whole

__all__ = ["CSV", "Words", "in_words", "write_numbers", "write_report"]

CSV = "comparison.csv"


@dataclass(frozen=True)
class Words:
    """The verdict in sentences, by subject; empty where there is nothing to say."""

    verdict: Sequence[str]
    equal: Sequence[str]
    beside: Sequence[str]
    tuning: Sequence[str]
    cost: Sequence[str]
    deploy: Sequence[str]

    @property
    def lines(self) -> list[str]:
        """All of them in order."""
        return [*self.tuning, *self.verdict, *self.equal, *self.beside, *self.cost, *self.deploy]


def in_words(
    outcome: Outcome, work: Mapping[str, float], choices: Sequence[Choice], speed: Speed | None, seeds: Sequence[int]
) -> Words:
    """Return everything that the terminal and the page say."""
    return Words(
        verdict=verdict_lines(outcome, len(seeds)),
        equal=equal_lines(outcome, work),
        beside=beside_lines(beside(outcome), outcome.figure),
        tuning=tuning_lines(choices, seeds[0]),
        cost=cost_lines(outcome, speed),
        deploy=deploy_lines(outcome),
    )


def write_numbers(
    out: Path, outcome: Outcome, words: Words, choices: Sequence[Choice], speed: Speed | None, asked: Mapping[str, Any]
) -> None:
    """Write comparison.json and comparison.csv.

    Args:
        out: the folder of the comparison.
        outcome: what was found.
        words: what it is in sentences.
        choices: what tuning chose.
        speed: of the deployed network; None while it has not been measured.
        asked: settings, images, seeds and command, by which the same command is recognised.
    """
    found = {one.name: one for one in beside(outcome)}
    record = {
        "version": FORMAT,
        "kind": KIND,
        **asked,
        "verdict": words.lines,
        "variants": [_result_record(result) for result in outcome.results],
        "gains": [_gain_record(gain) for gain in outcome.gains.values()],
        "beside": [dataclasses.asdict(one) for one in found.values()],
        "equal_compute": [_gain_record(gain) for gain in outcome.equal],
        "tuning": [dataclasses.asdict(choice) for choice in choices],
        "deployed_network": None if speed is None else dataclasses.asdict(speed),
        "deploy": None if outcome.deploy is None else str(outcome.deploy.directory),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, record)
    lines = [_csv_record(result, outcome.gains, found.get(result.variant.name)) for result in outcome.results]
    write_whole(out / CSV, csv_text(lines))


def write_report(out: Path, outcome: Outcome, words: Words, choices: Sequence[Choice], runs: Sequence[Run]) -> Path:
    """Write report.html, the verdict first, then the usual tables and curves of the runs that have begun."""
    # On this page a variant stands for the network that it deploys, also where other tables show the students' mean.
    shown = [
        dataclasses.replace(run, summary=dataclasses.replace(run.summary, headline="leader") if run.summary else None)
        for run in runs
    ]
    alone = outcome.alone.variant.name
    compared = compare(shown, baseline=alone if any(run.label == alone for run in shown) else None)
    methods = [result.variant.name for result in outcome.results if result.variant.kind != ALONE]
    title = f"Did it help? {', '.join(methods)} against the network alone"
    return write_page(compared, out / REPORT, title, _prefaces(outcome, words, choices))


def _prefaces(outcome: Outcome, words: Words, choices: Sequence[Choice]) -> list[Preface]:
    notes = [how_counted(outcome)]
    if any(gain.tests for gain in outcome.gains.values()):
        notes.append(
            "Could have shown: the difference that so many seeds find four times in five at p < 0.05, by the strictest "
            "step of Holm’s correction. Seeds for it: how many seeds the observed difference would need."
        )
    verdict = [*words.verdict, *words.deploy]
    prefaces = [Preface("Did it help?", verdict, grid=_gains_grid(outcome), notes=notes)]
    if words.equal:
        grid = _equal_grid(outcome.equal, NOUNS[outcome.figure])
        prefaces.append(Preface("What else the computation buys", words.equal, grid=grid))
    found = beside(outcome)
    if any(one.students > 1 for one in found):
        noun = NOUNS[outcome.figure]
        prefaces.append(Preface("What else a group gives", words.beside, grid=_beside_grid(found, noun), notes=BESIDE))
    if words.cost:
        prefaces.append(Preface("What it cost", words.cost))
    if words.tuning:
        lines = [[choice.variant, name, number(error)] for choice in choices for name, error in choice.tried]
        tried = _grid(["Method", "Setting", "Validation error, %"], lines, names=2)
        prefaces.append(Preface("Tuning", words.tuning, grid=tried))
    return prefaces


def _gains_grid(outcome: Outcome) -> Grid:
    noun = NOUNS[outcome.figure]
    headings = [
        "Variant", f"{noun[0].upper()}{noun[1:]}, deployed, %", f"Less {noun} than alone, points", "95 % interval",
        "p, Holm", "Could have shown, points", "Seeds for it", f"Validation {noun}, %", "Training time, × alone",
        "Seeds",
    ]  # fmt: skip
    lines = []
    for result in outcome.results:
        gain = outcome.gains.get(result.variant.name)
        gap = gain.paired.difference if gain else None
        lines.append(
            [
                result.variant.name, mean_std(result.error), number(gap.mean if gap else None, sign=True),
                interval(gap), p_value(gain.p_holm if gain else None), number(gain.detectable if gain else None),
                count(gain.seeds_needed if gain else None), mean_std(result.validation), number(result.cost, 1),
                str(len(result.runs)),
            ]
        )  # fmt: skip
    return _grid(headings, lines)


BESIDE = (
    "All students together: the mean of their probabilities. Calibration is that of the one network that would be "
    "deployed: ECE, the expected calibration error in 15 bins, and NLL, the negative log-likelihood. Better by: the "
    "figure of the network alone minus that of the variant, seed by seed, with its 95 % interval, neither tested nor "
    "corrected.",
)


def _beside_grid(found: Sequence[Beside], noun: str) -> Grid:
    better = "better by"
    headings = ["Variant", "Students", f"{noun[0].upper()}{noun[1:]} of all together, %", f"{better}, points"]
    headings += ["ECE, %", f"{better}, points", "NLL, nats", f"{better}, nats"]
    lines = []
    for one in found:
        line = [one.name, str(one.students)]
        for figure, digits in ((one.ensemble, 2), (one.ece, 2), (one.nll, 3)):
            line += [mean_std(figure.value, digits), _with_interval(figure.gain, digits)]
        lines.append(line)
    return _grid(headings, lines)


def _with_interval(gain: Estimate | None, digits: int) -> str:
    if gain is None:
        return MISSING
    between = interval(gain, digits)
    return number(gain.mean, digits, sign=True) + (f" ({between})" if between else "")


def _equal_grid(gains: Sequence[Gain], noun: str) -> Grid:
    headings = ["Method", "Against", f"Less {noun}, points", "95 % interval", "p, Holm", "Could have shown, points"]
    lines = [
        [
            gain.who, gain.against, number(gain.paired.difference.mean, sign=True), interval(gain.paired.difference),
            p_value(gain.p_holm), number(gain.detectable),
        ]
        for gain in gains
    ]  # fmt: skip
    return _grid(headings, lines, names=2)


def _grid(headings: list[str], lines: Sequence[Sequence[str]], names: int = 1) -> Grid:
    return Grid(headings, [[GridCell(text or MISSING) for text in line] for line in lines], names=names)


def _result_record(result: Result) -> dict[str, Any]:
    return {
        "name": result.variant.name,
        "kind": result.variant.kind,
        "method": result.variant.config.method,
        "options": dict(result.variant.config.method_options),
        "runs": {str(run.seed): str(run.directory) for run in result.runs},
        "deployed": result.rule,
        "error_percent": _estimate_record(result.error),
        "headline": result.headline,
        "headline_error_percent": _estimate_record(result.headline_error),
        "validation_error_percent": _estimate_record(result.validation),
        "training_time": result.cost,
        "parameters": result.parameters,
    }


def _gain_record(gain: Gain) -> dict[str, Any]:
    return {
        "who": gain.who,
        "against": gain.against,
        "less_error_points": _estimate_record(gain.paired.difference),
        "p": gain.paired.p,
        "p_holm": gain.p_holm,
        "comparisons": gain.tests,
        "detectable_points": gain.detectable,
        "seeds_needed": gain.seeds_needed,
        "within_points": gain.within,
    }


def _estimate_record(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else dataclasses.asdict(estimate)


def _csv_record(result: Result, gains: Mapping[str, Gain], further: Beside | None) -> dict[str, Any]:
    gain = gains.get(result.variant.name)
    gap = gain.paired.difference if gain else None
    record: dict[str, Any] = {"variant": result.variant.name, "kind": result.variant.kind, "seeds": len(result.runs)}
    quantities = {
        "error_percent": result.error,
        "headline_error_percent": result.headline_error,
        "validation_error_percent": result.validation,
        "less_error_points": gap,
        "ensemble_error_percent": further and further.ensemble.value,
        "ensemble_less_error_points": further and further.ensemble.gain,
        "ece_percent": further and further.ece.value,
        "nll": further and further.nll.value,
    }
    for name, found in quantities.items():
        record |= {f"{name}_{part}": found and getattr(found, part) for part in ("mean", "std", "low", "high")}
    return record | {
        "p": gain and gain.paired.p,
        "p_holm": gain and gain.p_holm,
        "detectable_points": gain and gain.detectable,
        "seeds_needed": gain and gain.seeds_needed,
        "within_points": gain and gain.within,
        "training_time": result.cost,
        "parameters": result.parameters,
    }
