"""Which runs are replicates of one variant: same label, networks and data, one run a seed."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.errors import UserError
from codistill.reports.run import Run
from codistill.reports.settings import differing, settings_of

__all__ = ["Group", "group_runs"]

Group = tuple[str, list[Run]]
"""A label and its runs, one a seed, by seed."""


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs of the same label, networks and data together, in the order of their first appearance.

    Two such runs with one seed but different settings are two variants that were given no label of their own: they
    are told apart by the settings in which they differ, which then stand in the label ("dml, optim.lr 0.05").

    Raises:
        UserError: two runs have the same label, networks, data, settings and seed, so that one would count twice.
    """
    alike: dict[tuple[str, tuple[str, ...], str], list[Run]] = {}
    for run in {run.directory.resolve(): run for run in runs}.values():
        alike.setdefault((run.label, run.models, run.data), []).append(run)
    return [group for (label, _, _), members in alike.items() for group in _by_settings(label, members)]


def _by_settings(label: str, members: list[Run]) -> list[Group]:
    if _twins(members) is None:
        return [(label, sorted(members, key=lambda run: run.seed))]
    settings = [settings_of(run) for run in members]
    names = differing(settings)
    parts: dict[tuple[str | None, ...], list[Run]] = {}
    for run, own in zip(members, settings, strict=True):
        parts.setdefault(tuple(own.get(name) for name in names), []).append(run)
    groups = []
    for values, part in parts.items():
        if twins := _twins(part):
            raise UserError(
                f"{twins[0].directory} and {twins[1].directory} are both {label!r} with seed {twins[0].seed} and the "
                "same settings: a seed counts once in a mean; leave one of them out."
            )
        told_apart = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        groups.append((f"{label}, {told_apart}", sorted(part, key=lambda run: run.seed)))
    return groups


def _twins(members: Sequence[Run]) -> tuple[Run, Run] | None:
    by_seed: dict[int, Run] = {}
    for run in members:
        if run.seed in by_seed:
            return by_seed[run.seed], run
        by_seed[run.seed] = run
    return None
