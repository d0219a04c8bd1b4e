"""Which runs make a table, those on the same images, and which are the seeds of one row, those of one experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from codistill.errors import UserError
from codistill.reports.run import Run
from codistill.reports.settings import METHOD_OPTIONS, experiment_of, images_of, settings_of, telling

__all__ = ["Group", "group_by_data", "group_runs"]

Group = tuple[str, list[Run]]
"""A name and its runs."""


def group_by_data(runs: Sequence[Run]) -> list[Group]:
    """Put runs on the same images together; a name that stands for several data sets says which ("..., data_dir a")."""
    named: dict[str, list[Run]] = {}
    for run in {run.directory.resolve(): run for run in runs}.values():
        named.setdefault(run.data, []).append(run)
    return [group for data, members in named.items() for group in _told_apart(data, members, images_of)]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs on the same images that differ in nothing but the seed together, by seed; the name is their label.

    What changes no experiment (NO_EXPERIMENT) may differ too. Runs of one label and networks that are not one
    experiment are told apart by the settings in which they differ, which then stand in the name ("dml, epochs 20").
    So are runs of one experiment and one seed, by how they ran ("dml, executor fused").

    Raises:
        UserError: two runs have the same label, networks, settings and seed, so that one would count twice.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.label, run.models), []).append(run)
    groups: list[Group] = []
    for (label, _), members in alike.items():
        for name, seeds in _told_apart(label, members, experiment_of):
            groups += _told_apart(name, seeds, settings_of) if _twins(seeds) else [(name, seeds)]
    for label, members in groups:
        if twins := _twins(members):
            raise UserError(
                f"{twins[0].directory} and {twins[1].directory} are both {label!r} with seed {twins[0].seed} and the "
                "same settings: a seed counts once in a mean; leave one of them out."
            )
    return [(label, sorted(members, key=lambda run: run.seed)) for label, members in groups]


def _told_apart(label: str, members: list[Run], settings_of_run: Callable[[Run], Mapping[str, str]]) -> list[Group]:
    settings = [settings_of_run(run) for run in members]
    names = telling(settings)
    parts: dict[tuple[str | None, ...], list[Run]] = {}
    for run, own in zip(members, settings, strict=True):
        parts.setdefault(tuple(own.get(name) for name in names), []).append(run)
    # An option of the method at its default is not named.
    shown = [name.removeprefix(METHOD_OPTIONS) for name in names]
    return [
        (", ".join([label, *(f"{n} {v}" for n, v in zip(shown, values, strict=True) if v is not None)]), part)
        for values, part in parts.items()
    ]


def _twins(members: Sequence[Run]) -> tuple[Run, Run] | None:
    by_seed: dict[int, Run] = {}
    for run in members:
        if run.seed in by_seed:
            return by_seed[run.seed], run
        by_seed[run.seed] = run
    return None
