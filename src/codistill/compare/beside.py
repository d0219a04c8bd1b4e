"""What a group gives beside the error of the one network to deploy: all its students together, and calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codistill.compare.outcome import Outcome, Result, deployed_error, paired_by_seed
from codistill.compare.variants import METHOD
from codistill.reports.statistics import Estimate, estimate
from codistill.rundir import Summary

__all__ = ["Beside", "Figure", "beside"]


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


def beside(outcome: Outcome) -> tuple[Beside, ...]:
    """Return the further figures of the network alone and of the methods that have a finished seed, in their order."""
    shown = (outcome.alone, *outcome.of(METHOD))
    return tuple(_beside(result, outcome.alone) for result in shown if result.runs)


def _beside(result: Result, alone: Result) -> Beside:
    def figure(pick: Callable[[Summary], float], of_alone: Callable[[Summary], float] | None = None) -> Figure:
        found = paired_by_seed(result, alone, pick, of_alone) if result is not alone else None
        return Figure(estimate([pick(summary) for summary in result.summaries]), found.difference if found else None)

    return Beside(
        result.variant.name,
        len(result.summaries[0].last.test.peers),
        figure(lambda s: s.last.test.ensemble.shortfall(s.figure), deployed_error),
        figure(lambda s: s.last.test.leader.ece),
        figure(lambda s: s.last.test.leader.nll),
    )
