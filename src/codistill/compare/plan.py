"""The folder of a comparison: its run directories, and the refusal to mix two comparisons in one folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from codistill.compare.request import CompareRequest
from codistill.compare.variants import Variant
from codistill.config import REPEATS, Config, config_to_dict
from codistill.errors import UserError
from codistill.meaning import without
from codistill.reports.settings import flatten
from codistill.rundir import LOCK, read_json
from codistill.training.check import LAST_SEED, check_config, resolve_device
from codistill.training.loggers import with_loggers

__all__ = [
    "KIND", "RECORD", "RUNS", "TUNING", "check_variants", "comparison_folder", "jobs_of", "placed", "refuse_other",
    "seeds_of", "settings_of", "threads_of",
]  # fmt: skip

RECORD, RUNS, TUNING = "comparison.json", "runs", "tuning"

KIND = "codistill-comparison"

EARLY = {RUNS, TUNING, LOCK, "slurm"}
"""What a comparison may have that was stopped before its record was written."""


def comparison_folder(request: CompareRequest) -> Path:
    """Return the folder to write to; UserError if it, or one above it, is a file."""
    out = request.out or Path("runs") / f"compare-{request.data}-{_slug('+'.join(request.model))}"
    if file := next((path for path in (out, *out.parents) if path.is_file()), None):
        raise UserError(f"out {file} is a file: give the path of a folder.")
    return out


def seeds_of(request: CompareRequest) -> list[int]:
    """Return the seeds; UserError for none, or beyond the largest."""
    if request.seeds < 1:
        raise UserError(f"seeds {request.seeds}: give at least 2, or 3 for a conclusion.")
    seeds = list(range(request.seed, request.seed + request.seeds))
    if seeds[0] < 0 or seeds[-1] > LAST_SEED:
        raise UserError(f"seeds {seeds[0]} to {seeds[-1]}: they must be within 0 and {LAST_SEED}.")
    return seeds


def jobs_of(request: CompareRequest) -> int | None:
    """Return how many runs are trained at the same time: one per device, or one per CPU core; None if Slurm says."""
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"jobs {request.jobs}: it must be at least 1; leave it out for one run per device or CPU core.")
    devices = [resolve_device(device) for device in request.devices or (request.device,)]
    if request.jobs is not None or request.launcher == "slurm":
        return request.jobs
    if request.devices or devices[0].type != "cpu":
        return len(devices)
    return _cores()


def threads_of(request: CompareRequest, jobs: int | None) -> int | None:
    """Return CPU threads of each run: those asked for, or an equal share of the cores; None with Slurm, or a GPU."""
    if request.threads is not None or request.launcher == "slurm":
        return request.threads
    on_cpu = all(resolve_device(device).type == "cpu" for device in request.devices or (request.device,))
    return max(1, _cores() // (jobs or 1)) if on_cpu else None


def placed(variant: Variant, seed: int, folder: Path, threads: int | None, name: str | None = None) -> Config:
    """Return the run of a variant's seed, in a directory below `folder` named after the variant (or `name`)."""
    out = folder / f"{_slug(name or variant.name)}-seed{seed}"
    return dataclasses.replace(variant.config, seed=seed, out=out, threads=threads)


def settings_of(variants: Sequence[Variant]) -> dict[str, dict[str, str]]:
    """Return the settings of each variant by its name, without those that change no number."""
    found = {}
    for variant in variants:
        plain = without(config_to_dict(variant.config), REPEATS)
        found[variant.name] = flatten(plain)
    return found


def refuse_other(folder: Path, wanted: Mapping[str, Mapping[str, str]], images: str, seed: int) -> tuple[str, ...]:
    """Refuse to go on in a folder that holds another comparison; return its variants that are not asked for now.

    More seeds and more methods are the same comparison.

    Args:
        folder: the folder of the comparison.
        wanted: name of a variant -> its settings.
        images: by what the images are recognised.
        seed: the first one.

    Raises:
        UserError: a variant of the same name has other settings, other images were trained on, or the folder holds
            something else.
    """
    if not (folder / RECORD).is_file():
        others = sorted(path.name for path in folder.iterdir() if path.name not in EARLY) if folder.exists() else []
        if others:
            raise UserError(
                f"out {folder} is not empty and holds no comparison (there is {', '.join(others[:3])}"
                f"{' and more' if len(others) > 3 else ''}): give another --out, or empty it yourself."
            )
        return ()
    record = read_json(folder / RECORD)
    if record.get("kind", KIND) != KIND or "settings" not in record:
        raise UserError(f"{folder / RECORD} is of another program: give another --out.")
    defaults = flatten(config_to_dict(Config()))
    for name, before in record["settings"].items():
        changes = _changes(before, wanted.get(name, before), defaults)
        if changes:
            raise _other(folder, f"{name}: {changes}")
    if record["images"] != images:
        raise _other(folder, f"of other images, {record['images']}; these are {images}")
    if record["first_seed"] != seed:
        raise _other(folder, f"its first seed is {record['first_seed']}, not {seed}")
    return tuple(name for name in record["settings"] if name not in wanted)


def check_variants(variants: Sequence[Variant]) -> None:
    """Raise UserError, by the name of the variant, for settings that make no sense."""
    folders: dict[str, str] = {}
    for variant in variants:
        other = folders.setdefault(_slug(variant.name), variant.name)
        if other != variant.name:
            raise UserError(f"{other!r} and {variant.name!r} would share a folder: leave one of them out.")
        try:
            check_config(variant.config)
            # Here, and not first in the processes that train.
            with_loggers(variant.config.logger, ())
        except UserError as error:
            raise UserError(f"{variant.name}: {error}") from error


def _other(folder: Path, what: str) -> UserError:
    return UserError(
        f"out {folder} holds another comparison ({what}): give another --out, or the settings with which it began."
    )


def _changes(before: Mapping[str, str], now: Mapping[str, str], defaults: Mapping[str, str]) -> str:
    """Return the settings that differ; one that an older version did not have had its default value."""
    names = [n for n in {**before, **now} if before.get(n, defaults.get(n)) != now.get(n, defaults.get(n))]
    shown = [f"{n} {before.get(n, defaults.get(n))} there, {now.get(n, defaults.get(n))} here" for n in names[:3]]
    return "; ".join(shown) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "_.+" else " " for c in text).split())


def _cores() -> int:
    return os.cpu_count() or 1
