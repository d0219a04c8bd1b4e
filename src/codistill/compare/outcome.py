"""What the finished runs of a comparison say: errors, gains over the network alone, cost, and which run to deploy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from codistill.compare.variants import ALONE, CHEAP, LONGER, METHOD, Variant
from codistill.reports.statistics import (
    SIGNIFICANT,
    Estimate,
    Paired,
    detectable,
    estimate,
    holm,
    paired,
    seeds_needed,
    within,
)
from codistill.rundir import Run, Summary

__all__ = ["Gain", "Outcome", "Result", "deployed_error", "judge", "paired_by_seed"]


@dataclass(frozen=True)
class Result:
    """One variant over its finished seeds. Errors are in percent; None while no seed is finished.

    An error is the figure that the runs were asked to count (`--headline`), where that is none as what it lacks to 100.

    Attributes:
        variant: what was trained.
        runs: the finished runs, by seed.
        error: test error of the student that is deployed, with the weights of the last epoch.
        rule: how that student is chosen, as in summary.json.
        headline: whose error stands for the variant in other tables, "leader" or "mean".
        headline_error: test error of that.
        validation: validation error of the student that is deployed.
        cost: training time as a multiple of the network alone's, the mean over the seeds that both have.
        parameters: of the network that is deployed.
    """

    variant: Variant
    runs: tuple[Run, ...]
    error: Estimate | None = None
    rule: str | None = None
    headline: str | None = None
    headline_error: Estimate | None = None
    validation: Estimate | None = None
    cost: float | None = None
    parameters: int | None = None

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """The results of the runs."""
        return tuple(run.summary for run in self.runs if run.summary)


@dataclass(frozen=True)
class Gain:
    """By how much one variant's error is below another's, on the seeds that both have.

    Attributes:
        who: the variant.
        against: the other one.
        paired: error of `against` minus that of `who`, in points: positive where `who` is better.
        tests: how many comparisons Holm's correction counts; 0 where this one is not tested.
        p_holm: the corrected p-value; None where there is no test.
        detectable: the difference that these seeds would have found with power 0.8, in points, by the strictest step
            of the correction; None where the differences do not spread.
        seeds_needed: how many seeds a difference like the observed one takes; None where that is not known, or more
            than MOST_SEEDS.
        within: the difference is shown to be smaller than this many points, either way, by two one-sided tests at
            0.05 each, not corrected; None where the differences do not spread.
    """

    who: str
    against: str
    paired: Paired
    tests: int = 0
    p_holm: float | None = None
    detectable: float | None = None
    seeds_needed: int | None = None
    within: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Everything that the comparison has found so far.

    Attributes:
        results: the variants, the network alone first.
        gains: by name of the variant, against the network alone; those of methods and cheap tricks are tested.
        equal: methods against what else the computation buys.
        deploy: the run to deploy, by validation; None while none is finished.
        figure: what an error is: "error", "balanced_error", "macro_f1" or "auroc".
    """

    results: tuple[Result, ...]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    equal: tuple[Gain, ...] = ()
    deploy: Run | None = None
    figure: str = "error"

    @property
    def alone(self) -> Result:
        """The network alone."""
        return self.results[0]

    def of(self, *kinds: str) -> tuple[Result, ...]:
        """Return the variants of these kinds."""
        return tuple(result for result in self.results if result.variant.kind in kinds)


def judge(variants: Sequence[Variant], runs: Mapping[str, Sequence[Run]], work: Mapping[str, float]) -> Outcome:
    """Compare the finished runs.

    Args:
        variants: the network alone first.
        runs: name of a variant -> its runs, finished or not.
        work: arithmetic of each variant as a multiple of the network alone's, by which a method is compared with the
            network that was trained for longer.
    """
    assert variants[0].kind == ALONE
    alone = _result(variants[0], runs)
    results = (alone, *(_costed(_result(variant, runs), alone) for variant in variants[1:]))
    figures = [summary.figure for result in results for summary in result.summaries]
    outcome = Outcome(results, deploy=_to_deploy(results), figure=next(iter(figures), "error"))
    pairs = [(result, alone) for result in outcome.of(METHOD, CHEAP)]
    gains = {gain.who: gain for gain in _tested(pairs)}
    untested = [_gain(result, alone) for result in outcome.of(LONGER)]
    gains |= {gain.who: gain for gain in untested if gain}
    rivals = [
        (method, other)
        for method in outcome.of(METHOD)
        for other in outcome.of(LONGER, CHEAP)
        if other.variant.kind == CHEAP or work[method.variant.name] == work[other.variant.name]
    ]
    return replace(outcome, gains=gains, equal=tuple(_tested(rivals)))


def _result(variant: Variant, runs: Mapping[str, Sequence[Run]]) -> Result:
    done = sorted((run for run in runs.get(variant.name, ()) if run.summary), key=lambda run: run.seed)
    result = Result(variant, tuple(done))
    if not done:
        return result
    found = result.summaries

    def over_seeds(pick: Callable[[Summary], float]) -> Estimate:
        return estimate([pick(summary) for summary in found])

    return replace(
        result,
        error=over_seeds(deployed_error),
        rule=found[0].leader.rule,
        headline=found[0].headline,
        headline_error=over_seeds(lambda s: s.last.test.score(s.headline).shortfall(s.figure)),
        validation=over_seeds(lambda s: s.last.validation.leader.shortfall(s.figure)),
        parameters=found[0].parameters.deployed,
    )


def deployed_error(summary: Summary) -> float:
    """Return the error on the test images of the student that is deployed, with the weights of the last epoch."""
    return summary.last.test.leader.shortfall(summary.figure)


def _costed(result: Result, alone: Result) -> Result:
    base = {s.seed: s.seconds.training for s in alone.summaries}
    ratios = [s.seconds.training / base[s.seed] for s in result.summaries if base.get(s.seed)]
    return replace(result, cost=statistics.fmean(ratios) if ratios else None)


def paired_by_seed(
    who: Result, against: Result, pick: Callable[[Summary], float], of_against: Callable[[Summary], float] | None = None
) -> Paired | None:
    """Return a figure of `against` minus that of `who`, on the seeds that both have; None where there is none.

    `of_against` reads the figure of `against`, if it is another one.
    """
    own = {s.seed: pick(s) for s in who.summaries}
    other = {s.seed: (of_against or pick)(s) for s in against.summaries}
    seeds = sorted(own.keys() & other.keys())
    return paired([other[s] for s in seeds], [own[s] for s in seeds]) if seeds else None


def _gain(who: Result, against: Result) -> Gain | None:
    found = paired_by_seed(who, against, deployed_error)
    return Gain(who.variant.name, against.variant.name, found) if found else None


def _tested(pairs: Sequence[tuple[Result, Result]]) -> list[Gain]:
    """Return the gains with Holm's correction for all of `pairs`, also for those that have no finished seed yet."""
    found = [gain for who, against in pairs if (gain := _gain(who, against))]
    adjusted = holm([gain.paired.p for gain in found])
    level = SIGNIFICANT / max(1, len(pairs))
    tested = []
    for gain, p in zip(found, adjusted, strict=True):
        gap, effect = gain.paired.difference, gain.paired.effect
        known = effect is not None and gap.std is not None
        tested.append(
            replace(
                gain,
                tests=len(pairs),
                p_holm=p,
                detectable=detectable(gap.std, gap.n, level) if known and gap.std is not None else None,
                seeds_needed=seeds_needed(effect, level) if effect is not None else None,
                within=within(gain.paired),
            )
        )
    return tested


def _to_deploy(results: Sequence[Result]) -> Run | None:
    """Return the run with the lowest validation error, of the variant with the lowest mean of them over the seeds.

    Each seed has other validation images, so single runs of different seeds are not compared across variants. Of
    variants with equal errors the first one is taken, which is the network alone. The test set has no say.
    """
    most = max(len(result.runs) for result in results)
    if not most:
        return None
    best = min((r for r in results if len(r.runs) == most), key=lambda r: r.validation.mean if r.validation else 100.0)

    def validation(run: Run) -> tuple[float, float]:
        assert run.summary is not None
        leader = run.summary.last.validation.leader
        return leader.shortfall(run.summary.figure), leader.nll

    return min(best.runs, key=validation)
