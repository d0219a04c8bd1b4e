"""From studies to cells: one run directory a configuration and seed, named by what it is, shared between studies."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codistill.errors import UserError, unknown
from codistill.reports.settings import NO_EXPERIMENT
from codistill.studies.study import Study, Variant
from codistill.training import Config, config_to_dict
from codistill.training.check import check_config
from codistill.training.naming import default_label

__all__ = ["Cell", "Plan", "folder_stem", "make_plan", "select"]


@dataclass(frozen=True)
class Cell:
    """One run: its configuration with seed and folder, and the cells (by index) whose runs it learns from."""

    config: Config
    after: tuple[int, ...] = ()


@dataclass
class Plan:
    """The cells of some studies, each once; `place` finds the cell of (study, variant, seed)."""

    cells: list[Cell] = field(default_factory=list)
    place: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def folder(self, study: str, variant: str, seed: int) -> Path:
        """The run directory of a variant's seed."""
        out = self.cells[self.place[study, variant, seed]].config.out
        assert out is not None
        return out


def select(study: Study, only: Sequence[str] = (), methods: Sequence[str] = ()) -> Study:
    """Keep some entries, the entries that they are compared with, and the variants and teachers that these need.

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


def make_plan(studies: Sequence[Study], seeds: int, out: Path) -> Plan:
    """Lay out the cells, seed by seed, so that an interrupted study has whole seeds first.

    Args:
        studies: of one profile.
        seeds: how many; seeds 0 to n - 1.
        out: folder of the profile; run directories go to `out / "runs"`.

    Raises:
        UserError: a configuration that makes no sense.
    """
    plan, known = Plan(), {}
    for seed in range(seeds):
        for study in studies:
            for name in study.variants:
                _place(plan, known, study, name, seed, out)
    return plan


def folder_stem(study: Study, name: str) -> str:
    """The name of a variant's run directories, up to the seed."""
    config = study.variants[name].config
    parts = (config.data, "+".join(config.model), _slug(_label(config)), _key(study, study.variants[name]))
    return "-".join(parts)


def _place(plan: Plan, known: dict[str, int], study: Study, name: str, seed: int, out: Path) -> int:
    if (study.name, name, seed) in plan.place:
        return plan.place[study.name, name, seed]
    variant = study.variants[name]
    after, teachers = (), ()
    if variant.teacher is not None:
        after = (_place(plan, known, study, variant.teacher, seed, out),)
        teachers = (str(plan.cells[after[0]].config.out),)
    folder = f"{folder_stem(study, name)}-seed{seed}"
    if folder not in known:
        known[folder] = len(plan.cells)
        where = {"seed": seed, "out": out / "runs" / folder, "label": _label(variant.config), "teachers": teachers}
        config = dataclasses.replace(variant.config, **where)
        check_config(config)
        plan.cells.append(Cell(config, after))
    plan.place[study.name, name, seed] = known[folder]
    return known[folder]


def _label(config: Config) -> str:
    return config.label or default_label(config)


def _key(study: Study, variant: Variant) -> str:
    """Ten digits of the hash of all that departs from the defaults, so that a later, new option changes no key."""
    default = _flat(config_to_dict(Config()))
    settings = _flat(config_to_dict(variant.config))
    # A teacher counts by its own key, wherever its run lies.
    own = {k: v for k, v in settings.items() if k not in (*NO_EXPERIMENT, "teachers") and v != default.get(k)}
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
