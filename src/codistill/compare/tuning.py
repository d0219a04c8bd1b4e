"""A small grid of temperature and weight, judged on validation images, with a seed that the comparison does not use."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codistill import methods
from codistill.compare.variants import METHOD, Variant
from codistill.rundir import Summary

__all__ = ["GRID", "SEED_AFTER", "Candidate", "Choice", "candidates", "choose"]

GRID: Mapping[str, tuple[float, ...]] = {"temperature": (1.0, 2.0, 4.0), "weight": (0.5, 1.0, 2.0)}
"""Option -> the values that are tried, the same for every method that has the option."""

SEED_AFTER = 1000
"""The seed of the search is this far from the first seed of the comparison."""


@dataclass(frozen=True)
class Candidate:
    """One point of the grid; `options` is empty for the method's own defaults."""

    variant: Variant
    options: Mapping[str, float]

    @property
    def name(self) -> str:
        """The variant with the options, such as "dml, temperature 2"."""
        return ", ".join([self.variant.name, *(f"{name} {value:g}" for name, value in self.options.items())])

    @property
    def tuned(self) -> Variant:
        """The variant with these options, under its own name."""
        config = self.variant.config
        together = {**config.method_options, **self.options}
        return dataclasses.replace(self.variant, config=dataclasses.replace(config, method_options=together))


@dataclass(frozen=True)
class Choice:
    """What the search found for one variant: the candidates with their validation errors in percent, best first."""

    variant: str
    tried: tuple[tuple[str, float], ...]
    options: Mapping[str, float]


def candidates(variants: Sequence[Variant]) -> list[Candidate]:
    """Return the points to try for every method that has an option of the grid that the user has not set."""
    found = []
    for variant in variants:
        free = [name for name in GRID if name in _options(variant) and name not in variant.given]
        if variant.kind == METHOD and free:
            found.append(Candidate(variant, {}))
            points = itertools.product(*(GRID[name] for name in free))
            found += [Candidate(variant, dict(zip(free, point, strict=True))) for point in points]
    return [one for one in found if not one.options or not _is_default(one)]


def choose(tried: Sequence[Candidate], summaries: Sequence[Summary]) -> list[Choice]:
    """Return the best candidate of each variant by the validation error of the student that would be deployed.

    Equal errors are decided by the likelihood, then by the order of the grid, the defaults first. The test set has no
    say.
    """
    by_variant: dict[str, list[tuple[float, float, Candidate]]] = {}
    for candidate, summary in zip(tried, summaries, strict=True):
        score = summary.last.validation.leader
        error = score.shortfall(summary.figure)
        by_variant.setdefault(candidate.variant.name, []).append((error, score.nll, candidate))
    choices = []
    for name, scored in by_variant.items():
        ordered = sorted(scored, key=lambda one: one[:2])
        choices.append(Choice(name, tuple((one.name, error) for error, _, one in ordered), ordered[0][2].options))
    return choices


def _options(variant: Variant) -> dict[str, Any]:
    return methods.options(variant.config.method)


def _is_default(candidate: Candidate) -> bool:
    defaults = _options(candidate.variant)
    return all(defaults[name] == value for name, value in candidate.options.items())
