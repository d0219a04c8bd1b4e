"""The runs of studies: one directory per configuration and seed, named after its settings, shared between studies."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codistill.config import default_label
from codistill.errors import UserError, unknown
from codistill.reports.settings import SAME_EXPERIMENT
from codistill.studies.study import Study, Variant
from codistill.training import Config, config_to_dict
from codistill.training.check import check_config

__all__ = ["PlannedRun", "RunList", "folder_stem", "make_run_list", "select"]


@dataclass(frozen=True)
class PlannedRun:
    """One run: its configuration with seed and directory, and the runs (by index in the list) that it learns from."""

    config: Config
    after: tuple[int, ...] = ()


@dataclass
class RunList:
    """The runs of some studies, each once; `index` has the position of (study, variant, seed) in `runs`."""

    runs: list[PlannedRun] = field(default_factory=list)
    index: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def folder(self, study: str, variant: str, seed: int) -> Path:
        """The run directory of a variant's seed."""
        out = self.runs[self.index[study, variant, seed]].config.out
        assert out is not None
        return out


def select(study: Study, only: Sequence[str] = (), methods: Sequence[str] = ()) -> Study:
    """Keep some entries, the entries that they are compared with, and the variants and teachers that all these need.

    Args:
        study: the whole study.
        only: rows of the table; all if empty.
        methods: columns, rows or methods of training; all if empty.

    Raises:
        UserError: the study has no such row or method, or none that is both.
    """
    names = {e: {e.row, e.column, study.variants[e.variant].config.method} for e in study.entries}
    known = (("row", only, study.rows), ("method", methods, sorted(set().union(*names.values()))))
    for what, asked, there in known:
        for one in asked:
            if one not in there:
                raise unknown(f"{what} of {study.name}", one, there)
    kept = {
        e for e in study.entries if (not only or e.row in only) and (not methods or not names[e].isdisjoint(methods))
    }
    if not kept:
        raise UserError(f"{study.name} has no number for {', '.join([*only, *methods])}: see 'codistill study list'.")
    bases = {e.base for e in kept}
    entries = tuple(e for e in study.entries if e in kept or (e.row, e.column) in bases)
    used = {e.variant for e in entries}
    used |= {teacher for name in used if (teacher := study.variants[name].teacher)}
    variants = {name: variant for name, variant in study.variants.items() if name in used}
    models = {model for variant in variants.values() for model in variant.config.model}
    networks = {name: ours for name, ours in study.networks.items() if ours in models}
    return dataclasses.replace(study, entries=entries, variants=variants, networks=networks)


def make_run_list(studies: Sequence[Study], seeds: int, out: Path) -> RunList:
    """List the runs seed by seed, so that an interrupted study has finished its first seeds.

    Args:
        studies: of one profile.
        seeds: how many; seeds 0 to n - 1.
        out: folder of the profile; run directories go to `out / "runs"`.

    Raises:
        UserError: a configuration that makes no sense.
    """
    listed, known = RunList(), {}
    for seed in range(seeds):
        for study in studies:
            for name in study.variants:
                _add(listed, known, study, name, seed, out)
    return listed


def folder_stem(study: Study, name: str) -> str:
    """Return the name of a variant's run directories, up to the seed."""
    config = study.variants[name].config
    parts = (config.data, "+".join(config.model), _slug(_label(config)), _key(study, study.variants[name]))
    return "-".join(parts)


def _add(listed: RunList, known: dict[str, int], study: Study, name: str, seed: int, out: Path) -> int:
    """Add a variant's run, and its teacher's before it, unless they are listed; return its index."""
    if (study.name, name, seed) in listed.index:
        return listed.index[study.name, name, seed]
    variant = study.variants[name]
    after, teachers = (), ()
    if variant.teacher is not None:
        after = (_add(listed, known, study, variant.teacher, seed, out),)
        teachers = (str(listed.runs[after[0]].config.out),)
    folder = f"{folder_stem(study, name)}-seed{seed}"
    if folder not in known:
        known[folder] = len(listed.runs)
        where = {"seed": seed, "out": out / "runs" / folder, "label": _label(variant.config), "teachers": teachers}
        config = dataclasses.replace(variant.config, **where)
        check_config(config)
        listed.runs.append(PlannedRun(config, after))
    listed.index[study.name, name, seed] = known[folder]
    return known[folder]


def _label(config: Config) -> str:
    return config.label or default_label(config)


def _key(study: Study, variant: Variant) -> str:
    """Ten digits of the hash of all settings that are not the default, so that a new option changes no key."""
    default = _flat(config_to_dict(Config()))
    settings = _flat(config_to_dict(variant.config))
    # A teacher is identified by its own key, wherever its run lies.
    own = {k: v for k, v in settings.items() if k not in (*SAME_EXPERIMENT, "teachers") and v != default.get(k)}
    if variant.teacher is not None:
        own["teacher"] = _key(study, study.variants[variant.teacher])
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:10]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "_." else " " for c in text).split())
