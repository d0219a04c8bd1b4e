"""Which runs make one table (those on the same images), and which are the seeds of one row (one experiment)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from codistill.errors import UserError
from codistill.reports.settings import METHOD_OPTIONS, distinguishing_settings, experiment_of, images_of, settings_of
from codistill.rundir import Run

__all__ = ["Group", "group_by_data", "group_runs"]

Group = tuple[str, list[Run]]
"""A name and its runs."""


def group_by_data(runs: Sequence[Run]) -> list[Group]:
    """Group runs on the same images; a name that stands for several data sets is extended ("..., data_dir a")."""
    named: dict[str, list[Run]] = {}
    for run in {run.directory.resolve(): run for run in runs}.values():
        named.setdefault(run.data, []).append(run)
    return [group for data, members in named.items() for group in _split_by(images_of, data, members)]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs on the same images that differ only in the seed, in the order of the seeds; the name is their label.

    Settings that do not change the experiment (SAME_EXPERIMENT) may differ too. Runs with the same label and networks
    that are different experiments become separate groups, and the settings in which they differ are added to the name
    ("dml, epochs 20"). So do runs of one experiment with the same seed that were run differently ("dml, executor
    fused").

    Raises:
        UserError: two runs have the same label, networks, settings and seed, so that one would count twice.
    """
    alike: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.label, run.models), []).append(run)
    groups: list[Group] = []
    for (label, _), members in alike.items():
        for name, seeds in _split_by(experiment_of, label, members):
            groups += _split_by(settings_of, name, seeds) if _twins(seeds) else [(name, seeds)]
    for label, members in groups:
        if twins := _twins(members):
            raise UserError(
                f"{twins[0].directory} and {twins[1].directory} are both {label!r} with seed {twins[0].seed} and the "
                "same settings: a seed counts once in a mean; leave one of them out."
            )
    return [(label, sorted(members, key=lambda run: run.seed)) for label, members in groups]


def _split_by(pick: Callable[[Run], Mapping[str, str]], label: str, members: list[Run]) -> list[Group]:
    settings = [pick(run) for run in members]
    names = distinguishing_settings(settings)
    alike: dict[tuple[str | None, ...], list[Run]] = {}
    for run, own in zip(members, settings, strict=True):
        alike.setdefault(tuple(own.get(name) for name in names), []).append(run)
    # An option of the method that is left at its default is not named.
    shown = [name.removeprefix(METHOD_OPTIONS) for name in names]
    return [
        (", ".join([label, *(f"{n} {v}" for n, v in zip(shown, values, strict=True) if v is not None)]), runs)
        for values, runs in alike.items()
    ]


def _twins(members: Sequence[Run]) -> tuple[Run, Run] | None:
    by_seed: dict[int, Run] = {}
    for run in members:
        if run.seed in by_seed:
            return by_seed[run.seed], run
        by_seed[run.seed] = run
    return None
