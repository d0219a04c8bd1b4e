"""The verdict of a comparison in sentences."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from codistill.compare.beside import Beside
from codistill.compare.latency import Speed
from codistill.compare.outcome import Gain, Outcome
from codistill.compare.tuning import SEED_AFTER, Choice
from codistill.compare.variants import CHEAP, LONGER, METHOD
from codistill.reports.comparison import FEW_SEEDS
from codistill.reports.numbers import count, mean_std, number, p_value, span
from codistill.reports.statistics import MOST_SEEDS, SIGNIFICANT, Estimate
from codistill.rundir import Evaluation

__all__ = [
    "NOUNS",
    "beside_lines",
    "cost_lines",
    "deploy_lines",
    "equal_lines",
    "how_counted",
    "tuning_lines",
    "verdict_lines",
]

NOUNS = {
    "error": "error",
    "balanced_error": "balanced error",
    "macro_f1": "shortfall of macro F1",
    "auroc": "shortfall of AUROC",
}
"""What an error is called, by the figure that the runs count."""


def verdict_lines(outcome: Outcome, planned: int) -> list[str]:
    """Return what the network alone reached, and what each method and cheap trick gained over it.

    Args:
        outcome: what was found.
        planned: seeds of each variant when all runs are finished.
    """
    lines = [_unfinished(outcome, planned), _alone(outcome)]
    for result in outcome.of(METHOD, CHEAP):
        gain = outcome.gains.get(result.variant.name)
        if gain is not None:
            lines.append(" ".join(filter(None, (f"{_difference(gain, outcome)}.", _verdict(gain), _power(gain)))))
        elif outcome.alone.runs:
            lines.append(f"{result.variant.name}: no seed is finished yet.")
    return [line for line in lines if line]


def equal_lines(outcome: Outcome, work: Mapping[str, float]) -> list[str]:
    """Return how the methods stand against what else the computation buys; `work`: of a variant, alone's being 1."""
    lines = []
    for result in outcome.of(LONGER):
        gain = outcome.gains.get(result.variant.name)
        if gain is not None:
            times = work[result.variant.name]
            costly = [r.variant.name for r in outcome.of(METHOD) if work[r.variant.name] == times]
            whose = f"The arithmetic of {'; '.join(costly)} is {times:.1f} times that of the network alone"
            lines.append(f"{whose}, which is worth {result.variant.name}. {_difference(gain, outcome)}.")
    lines += [f"{_difference(gain, outcome)}. {_verdict(gain)}" for gain in outcome.equal]
    return lines


def beside_lines(found: Sequence[Beside], figure: str) -> list[str]:
    """Return how well the students of each group do together; `figure`: what the runs count."""
    lines = []
    for one in found:
        if one.students > 1 and one.ensemble.gain is not None:
            amount, sure = _amount(one.ensemble.gain)
            lines.append(
                f"All {one.students} students of {one.name} together had {mean_std(one.ensemble.value)} % "
                f"{NOUNS[figure]}, {amount} than the network alone{f' ({sure})' if sure else ''}."
            )
    if lines:
        lines.append("Together they cost as many passes as there are students, in every prediction.")
    return lines


def tuning_lines(choices: Sequence[Choice], first_seed: int) -> list[str]:
    """Return what the search has chosen."""
    if not choices:
        return []
    lines = []
    for choice in choices:
        best = ", ".join(f"{name} {value:g}" for name, value in choice.options.items()) or "its defaults"
        errors = f"validation error {number(choice.tried[0][1])} %"
        default = next((error for name, error in choice.tried if name == choice.variant), None)
        if choice.options and default is not None:
            errors += f", with its defaults {number(default)} %"
        lines.append(f"{choice.variant}: {best} ({errors}; {len(choice.tried)} settings tried).")
    return [
        f"Tuned on the validation images of seed {first_seed + SEED_AFTER}, which is none of the seeds compared. The "
        "search reads no test result, although each of its runs writes one, as all runs do. The network alone was not "
        "tuned.",
        *lines,
    ]


def cost_lines(outcome: Outcome, speed: Speed | None) -> list[str]:
    """Return what training cost, and what the deployed network is."""
    costs = [f"{result.variant.name} {result.cost:.1f}" for result in outcome.results[1:] if result.cost is not None]
    lines = [f"Training time as a multiple of the network alone: {', '.join(costs)}."] if costs else []
    sizes = {result.parameters: result for result in outcome.results if result.parameters is not None}
    if len(sizes) == 1:
        network = " + ".join(dict.fromkeys(outcome.alone.variant.config.model))
        lines.append(f"Every variant deploys the same network, {network} with {count(next(iter(sizes)))} parameters.")
    elif sizes:
        named = (f"{r.variant.name} {count(r.parameters)}" for r in outcome.results if r.parameters)
        lines.append(f"Deployed parameters: {', '.join(named)}.")
    if speed is not None:
        where = f"{speed.device}, {speed.threads} threads" if speed.device == "cpu" else speed.device
        lines.append(
            f"The deployed network takes {speed.milliseconds:.2f} ms for one image, and does "
            f"{speed.images_per_second:,.0f} images per second at batch {speed.batch} ({where}, this machine)."
        )
    return lines


def deploy_lines(outcome: Outcome) -> list[str]:
    """Return which run to deploy, why, and the command for it."""
    run = outcome.deploy
    if run is None or run.summary is None:
        return []
    best = next(result for result in outcome.results if run in result.runs)
    assert best.validation is not None
    why = f"mean validation {NOUNS[outcome.figure]} {mean_std(best.validation)} %"
    if best is not outcome.alone and outcome.alone.validation is not None:
        why += f", alone {mean_std(outcome.alone.validation)} %"
    command = shlex.join(["codistill", "export", str(run.directory)])
    lines = [f"Deploy {best.variant.name}, seed {run.seed}, chosen by validation ({why}): {command}"]
    if best is not outcome.alone and not _shown_better(outcome.gains.get(best.variant.name)):
        lines.append(
            "That it is better than the network alone is not shown: a run of the network alone would do as well."
        )
    if best.rule == "lowest validation error":
        lines.append(
            "A group without a leader picks its student on the images that this choice looks at, which favours it a "
            "little."
        )
    return lines


def _shown_better(gain: Gain | None) -> bool:
    """Whether the difference to the network alone is unlikely to be chance, and a gain."""
    if gain is None or gain.p_holm is None or gain.paired.difference.n < FEW_SEEDS:
        return False
    return gain.p_holm < SIGNIFICANT and gain.paired.difference.mean > 0


def how_counted(outcome: Outcome) -> str:
    """Return which student of each method is compared, and on how many images."""
    named = {"group leader": [], "lowest validation error": []}
    for result in outcome.of(METHOD):
        if result.rule in named:
            named[result.rule].append(result.variant.name)
    texts = {
        "group leader": "the group leader that the method names",
        "lowest validation error": "the student with the lowest validation error",
    }
    whose = "; ".join(f"{texts[rule]} ({', '.join(names)})" for rule, names in named.items() if names)
    return (
        "Compared is the one network that would be deployed, with the weights of the last epoch on the test images"
        + (f": {whose}." if whose else ".")
        + " Differences are taken seed by seed. p is from the paired t-test. It says how much training varies, not how "
        "other images would do."
    )


def _unfinished(outcome: Outcome, planned: int) -> str:
    done = sum(len(result.runs) for result in outcome.results)
    total = planned * len(outcome.results)
    return f"Not finished: {done} of {total} runs are done." if done < total else ""


def _alone(outcome: Outcome) -> str:
    alone = outcome.alone
    if alone.error is None:
        return "The network alone has no finished seed yet."
    test = alone.summaries[0].last.test
    return (
        f"The network alone had {_noun(outcome)} of {mean_std(alone.error)} % over {_seeds(alone.error.n)}, on "
        f"{count(test.images)} test images{_one_image(test, outcome.figure)}."
    )


def _one_image(test: Evaluation, figure: str) -> str:
    """Return by how many points one test image moves the figure, where that is known."""
    if figure == "error":
        return f", of which one is {number(100 / test.images)} points"
    if figure != "balanced_error" or test.confusion is None:
        return ""
    per_class = [sum(row) for row in test.confusion if sum(row)]
    least, most = (number(100 / (len(per_class) * images)) for images in (max(per_class), min(per_class)))
    return f", of which one is {least}" + (f" to {most} points, by its class" if least != most else " points")


def _noun(outcome: Outcome) -> str:
    return f"an {NOUNS[outcome.figure]}" if outcome.figure == "error" else f"a {NOUNS[outcome.figure]}"


def _difference(gain: Gain, outcome: Outcome) -> str:
    gap, noun = gain.paired.difference, NOUNS[outcome.figure]
    against = "the network alone" if gain.against == outcome.alone.variant.name else gain.against
    start = f"With {_seeds(gap.n)}, {gain.who} had"
    if gap.mean == 0 and not gap.std:
        return f"{start} the same {noun} as {against} every time"
    amount, sure = _amount(gap)
    details = [sure] if sure and gain.paired.effect is not None else []
    if gain.p_holm is not None:
        after = f" after Holm for {gain.tests} comparisons" if gain.tests > 1 else ""
        details.append(f"p {'' if gain.p_holm < 0.001 else '= '}{p_value(gain.p_holm)}{after}")
    text = f"{start} {amount} {noun} than {against}"
    return text + (f" ({', '.join(details)})" if details else "")


def _amount(gap: Estimate) -> tuple[str, str]:
    """Return "1.50 points less", or more, and the interval with the sign of that; "" where there is none."""
    less = gap.mean >= 0
    amount = f"{number(abs(gap.mean))} points {'less' if less else 'more'}"
    if gap.low is None or gap.high is None:
        return amount, ""
    return amount, f"95 % interval {span(gap.low, gap.high) if less else span(-gap.high, -gap.low)}"


def _verdict(gain: Gain) -> str:
    gap = gain.paired.difference
    if gap.n < 2:
        return "One seed says nothing about chance."
    if gap.n < FEW_SEEDS:
        return f"{gap.n} seeds support no conclusion."
    if gain.p_holm is None:
        return "The difference was the same every time, so chance cannot be judged."
    if gain.p_holm >= SIGNIFICANT:
        return "This may be chance."
    return "This is more than chance: it helped." if gap.mean > 0 else "This is more than chance: it made things worse."


def _power(gain: Gain) -> str:
    """Return what so many seeds could have shown, where nothing was shown and there are enough to say so."""
    n = gain.paired.difference.n
    if n < FEW_SEEDS or gain.detectable is None or gain.p_holm is None or gain.p_holm < SIGNIFICANT:
        return ""
    needed = f"about {gain.seeds_needed} seeds" if gain.seeds_needed else f"more than {MOST_SEEDS:,} seeds"
    bound = f"With 95 % confidence the difference is below {number(gain.within)} points, either way."
    return (
        f"{n} seeds find a true difference of {number(gain.detectable)} points four times in five; one as large as "
        f"observed takes {needed}. {bound}"
    )


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"
