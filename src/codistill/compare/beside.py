"""What a group gives beside the error of the one network to deploy: all its students together, and calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codistill.compare.outcome import Outcome, Result
from codistill.compare.variants import METHOD
from codistill.reports.numbers import mean_std, number
from codistill.reports.statistics import Estimate, estimate, paired
from codistill.rundir import Summary

__all__ = ["Beside", "Figure", "beside", "beside_lines"]


@dataclass(frozen=True)
class Figure:
    """One figure on the test images, with the weights of the last epoch.

    Attributes:
        value: over the variant's finished seeds.
        gain: the network alone's minus the variant's, by seed: positive where the variant is better. An interval
            without a test or a correction. None for the network alone, and where no seed is common.
    """

    value: Estimate
    gain: Estimate | None


@dataclass(frozen=True)
class Beside:
    """Further figures of one variant.

    Attributes:
        name: the variant.
        students: how many the group has.
        ensemble: error of all students together, by the mean of their probabilities, as `Result.error` counts it; the
            gain is over the error of the network alone.
        ece: expected calibration error of the student that is deployed, in percent.
        nll: negative log-likelihood of the student that is deployed, in nats.
    """

    name: str
    students: int
    ensemble: Figure
    ece: Figure
    nll: Figure


Pick = Callable[[Summary], float]


def beside(outcome: Outcome) -> tuple[Beside, ...]:
    """Return the further figures of the network alone and of the methods that have a finished seed, in their order."""
    shown = (outcome.alone, *outcome.of(METHOD))
    return tuple(_beside(result, outcome.alone) for result in shown if result.runs)


def _beside(result: Result, alone: Result) -> Beside:
    def figure(pick: Pick, of_alone: Pick | None = None) -> Figure:
        own = {summary.seed: pick(summary) for summary in result.summaries}
        base = {summary.seed: (of_alone or pick)(summary) for summary in alone.summaries}
        seeds = sorted(own.keys() & base.keys()) if result is not alone else ()
        gain = paired([base[s] for s in seeds], [own[s] for s in seeds]).difference if seeds else None
        return Figure(estimate(list(own.values())), gain)

    return Beside(
        result.variant.name,
        len(result.summaries[0].last.test.peers),
        figure(lambda s: s.last.test.ensemble.shortfall(s.figure), lambda s: s.last.test.leader.shortfall(s.figure)),
        figure(lambda s: s.last.test.leader.ece),
        figure(lambda s: s.last.test.leader.nll),
    )


def beside_lines(found: tuple[Beside, ...], noun: str) -> list[str]:
    """Return in words how well the students of each group do together; `noun`: what an error is called."""
    lines = []
    for one in found:
        gain = one.ensemble.gain
        if one.students == 1 or gain is None:
            continue
        less, low, high = abs(gain.mean), gain.low, gain.high
        low, high = (low, high) if gain.mean >= 0 or low is None or high is None else (-high, -low)
        sure = "" if low is None else f" (95 % interval {number(low)} to {number(high)})"
        difference = f"{number(less)} points {'less' if gain.mean >= 0 else 'more'} than the network alone{sure}"
        error = f"{mean_std(one.ensemble.value)} % {noun}"
        lines.append(f"All {one.students} students of {one.name} together had {error}, {difference}.")
    if lines:
        lines.append("Together they cost as many passes as there are students, in every prediction.")
    return lines
