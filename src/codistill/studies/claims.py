"""The papers' claims as comparisons that the runs decide: each is confirmed, not confirmed or undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from codistill.reports.comparison import FEW_SEEDS
from codistill.reports.statistics import SIGNIFICANT, Paired, equivalence, holm, paired
from codistill.studies.results import Number

__all__ = ["MARGIN", "SAME", "Claim", "Contrast", "Finding", "Judged", "judge"]

MARGIN = 0.3
"""Points below which a difference has no practical size."""

SAME = "no difference"
"""The verdict of a comparison whose difference is shown to be smaller than its margin."""

Place = tuple[str, str, str]
"""Study, row, column."""


@dataclass(frozen=True)
class Contrast:
    """One comparison: a weighted sum of numbers, taken seed by seed.

    Attributes:
        what: a short description.
        terms: (weight, place) of every number.
        expect: where the claim puts the sum: "below" or "above" zero, or "near" it.
        margin: half the width of "near", in points; otherwise how large a difference, either way, counts as none.
    """

    what: str
    terms: tuple[tuple[float, Place], ...]
    expect: Literal["below", "above", "near"]
    margin: float


@dataclass(frozen=True)
class Claim:
    """What a paper says, and the comparisons that decide it."""

    text: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Judged:
    """A comparison with what was measured; None where a number is missing.

    `p_same` is that of equivalence within the contrast's margin; both p-values are Holm's.
    """

    contrast: Contrast
    result: Paired | None
    p_holm: float | None
    p_same: float | None
    verdict: str


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict, and that of every comparison."""

    claim: Claim
    verdict: str
    judged: tuple[Judged, ...]

    @property
    def measured(self) -> tuple[Judged, ...]:
        """The comparisons for which there are runs."""
        return tuple(j for j in self.judged if j.result is not None)


def judge(claim: Claim, numbers: Mapping[Place, Number]) -> Finding:
    """Decide a claim.

    A comparison is decided at p < 0.05 by the two-sided paired t-test over at least 3 seeds, after Holm's correction
    for the comparisons of the claim; "near" is confirmed by a 95 % interval inside the margin. Where it is not decided,
    two one-sided tests at 0.05, with a correction of their own, can show that there is no difference larger than the
    margin. The claim is confirmed if all its comparisons are, and not confirmed if one is decided the other way. There
    is no difference if all are confirmed or without difference, and at least one is the latter. Otherwise the claim is
    undecided. Comparisons of the same runs are counted once: under `smoke`, OKDDip's tables 1 and 2 are both of digits.
    """
    by_sources: dict[frozenset, Contrast] = {}
    for contrast in claim.contrasts:
        by_sources.setdefault(_sources(contrast, numbers), contrast)
    contrasts = by_sources.values()
    results = [_measure(contrast, numbers) for contrast in contrasts]
    adjusted = holm([r.p if r else None for r in results])
    same = holm([equivalence(r, c.margin) if r else None for c, r in zip(contrasts, results, strict=True)])
    judged = tuple(
        Judged(contrast, result, p, p_same, _verdict(contrast, result, p, p_same))
        for contrast, result, p, p_same in zip(contrasts, results, adjusted, same, strict=True)
    )
    return Finding(claim, _verdict_of_claim({j.verdict for j in judged if j.result is not None}), judged)


def _verdict_of_claim(verdicts: set[str]) -> str:
    if "not confirmed" in verdicts:
        return "not confirmed"
    if verdicts == {"confirmed"}:
        return "confirmed"
    return SAME if SAME in verdicts and verdicts <= {"confirmed", SAME} else "undecided"


def _sources(contrast: Contrast, numbers: Mapping[Place, Number]) -> frozenset[tuple[float, tuple[str, ...]]]:
    """Return the runs behind each number of the comparison, or the number's place where there are none."""
    found = ((weight, place, numbers.get(place)) for weight, place in contrast.terms)
    return frozenset((weight, number.source if number and number.source else place) for weight, place, number in found)


def _measure(contrast: Contrast, numbers: Mapping[Place, Number]) -> Paired | None:
    if not all(place in numbers for _, place in contrast.terms):
        return None
    seeds = set.intersection(*(set(numbers[place].values) for _, place in contrast.terms))
    sums = [sum(weight * numbers[place].values[seed] for weight, place in contrast.terms) for seed in sorted(seeds)]
    return paired(sums, [0.0] * len(sums)) if sums else None


def _verdict(contrast: Contrast, result: Paired | None, p: float | None, p_same: float | None) -> str:
    if result is None or result.difference.n < FEW_SEEDS:
        return "undecided"
    gap = result.difference
    assert gap.low is not None
    assert gap.high is not None
    if contrast.expect == "near":
        if gap.low > -contrast.margin and gap.high < contrast.margin:
            return "confirmed"
        return "not confirmed" if gap.low > contrast.margin or gap.high < -contrast.margin else "undecided"
    if p is None or p >= SIGNIFICANT:
        return SAME if p_same is not None and p_same < SIGNIFICANT else "undecided"
    return "confirmed" if (gap.mean < 0) == (contrast.expect == "below") else "not confirmed"


def difference(what: str, study: str, better: tuple[str, str], worse: tuple[str, str], lower: bool) -> Contrast:
    """Compare `better` with `worse` in one table; `lower` for errors."""
    terms = ((1.0, (study, *better)), (-1.0, (study, *worse)))
    return Contrast(what, terms, "below" if lower else "above", MARGIN)


def slope(what: str, study: str, row: str, columns: Sequence[str], lower: bool) -> Contrast:
    """Take the least-squares slope of a row over its columns, which are numbers.

    Its margin is that of one number over the whole range.
    """
    sizes = [float(column) for column in columns]
    middle = sum(sizes) / len(sizes)
    spread = sum((size - middle) ** 2 for size in sizes)
    weights = [(size - middle) / spread for size in sizes]
    terms = tuple((w, (study, row, column)) for w, column in zip(weights, columns, strict=True))
    return Contrast(what, terms, "below" if lower else "above", MARGIN / (max(sizes) - min(sizes)))
