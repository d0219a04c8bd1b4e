"""`codistill compare`: check everything, tune if asked, train the runs, and write the answer after each of them."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codistill.compare.latency import Speed, measure_speed
from codistill.compare.outcome import judge
from codistill.compare.output import Words, in_words, write_numbers, write_report
from codistill.compare.plan import (
    RUNS,
    TUNING,
    check_variants,
    comparison_folder,
    jobs_of,
    placed,
    refuse_other,
    seeds_of,
    settings_of,
    threads_of,
)
from codistill.compare.preflight import Ready, build_all
from codistill.compare.request import CompareRequest
from codistill.compare.tuning import SEED_AFTER, Candidate, Choice, candidates, choose
from codistill.compare.variants import Variant, cheap_variants, make_variants, settled
from codistill.console import plain_duration, print_lines
from codistill.errors import UserError
from codistill.rundir import (
    LOG,
    REPORT,
    SUMMARY,
    Run,
    Summary,
    is_complete,
    is_run,
    lock_run,
    make_folder,
    read_record,
    read_run,
)
from codistill.studies.one_run import EndedRun, refuse_other_run
from codistill.studies.runner import at_a_time, run_all
from codistill.studies.slurm import Slurm, slurm_of
from codistill.terminal import Console, styled
from codistill.training import Config
from codistill.training.check import resolve_device
from codistill.training.out_folder import starting

__all__ = ["run_comparison"]

PAUSE = 20.0
"""Seconds between two writings of the page while runs are training: drawing it takes a second from them."""


@dataclass
class _Comparison:
    """A comparison in progress."""

    request: CompareRequest
    console: Console
    folder: Path
    seeds: list[int]
    jobs: int | None
    threads: int | None
    slurm: Slurm | None = None
    variants: list[Variant] = field(default_factory=list)
    work: dict[str, float] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    written: float = 0.0


def run_comparison(request: CompareRequest, console: Console) -> bool:
    """Train the runs that are not yet finished, and write and print the answer.

    Returns:
        Whether every run is finished in the end.

    Raises:
        UserError: anything that the user can correct, before any training and before anything is written.
    """
    started = time.perf_counter()
    request = settled(request)
    now = _prepared(request, console)
    for config in _tuning_runs(now) if request.tune else _runs(now):
        refuse_other_run(config)
    if request.dry_run:
        _print_runs(now)
        return True
    _claim(now)
    failed: list[EndedRun] = []
    if request.tune:
        failed = _tune(now)
    if not failed:
        failed = _train(now)
    for result in failed:
        line = styled(("failed", "red"), f": {result.run_dir / LOG}: {result.reason}")
        console.print(result.reason if result.elsewhere else line, soft_wrap=True)
    console.print(f"{plain_duration(time.perf_counter() - started)} in total")
    return not failed


def _prepared(request: CompareRequest, console: Console) -> _Comparison:
    """Return the comparison with all its variants, each of which can be trained; nothing is written."""
    folder, seeds, jobs = comparison_folder(request), seeds_of(request), jobs_of(request)
    slurm = slurm_of(request.launcher, request.slurm, request.devices, folder)
    variants = make_variants(request)
    if request.equal_compute:
        variants += cheap_variants(variants[0])
    points = candidates(variants) if request.tune else []
    check_variants([*variants, *(point.tuned for point in points)])
    if request.tune and not points:
        raise UserError(
            "tune: none of the methods has a temperature or weight that is left open; leave --tune out, or the options."
        )
    ready = build_all(variants, points, request.equal_compute)
    now = _Comparison(request, console, folder, seeds, jobs, threads_of(request, jobs), slurm)
    now.variants, now.work = list(ready.variants), dict(ready.work)
    _take_folder(now, ready)
    return now


def _take_folder(now: _Comparison, ready: Ready) -> None:
    """Say what is compared, and refuse a folder with another comparison in it."""
    settings = settings_of(now.variants) | {"search": {"tune": str(now.request.tune).lower()}}
    left_out = refuse_other(now.folder, settings, ready.images, now.seeds[0])
    now.asked = {
        "command": shlex.join(["codistill", *sys.argv[1:]]),
        "settings": settings,
        "images": ready.images,
        "first_seed": now.seeds[0],
        "seeds": len(now.seeds),
    }
    names = "; ".join(variant.name for variant in now.variants)
    runs = len(now.variants) * len(now.seeds)
    lines = [
        *ready.lines,
        f"{runs} runs of {' + '.join(now.variants[0].config.model)}: {names}; {len(now.seeds)} seeds, "
        f"{ready.epochs} epochs, {at_a_time(now.jobs)}",
    ]
    if len(now.seeds) == 1:
        lines.append("One seed says nothing about chance; give --seeds 3 or more for a conclusion.")
    if left_out:
        lines.append(f"Not asked for now, and so not in the report: {', '.join(left_out)} (the runs stay).")
    print_lines(now.console, lines)


def _claim(now: _Comparison) -> None:
    """Write the record before anything is trained: a comparison of other settings is refused in the folder from now on.

    One with the same settings may go on beside this one; what trains there is not trained twice.
    """
    with starting(now.folder):
        make_folder(now.folder / RUNS)
        with lock_run(now.folder):
            refuse_other(now.folder, now.asked["settings"], now.asked["images"], now.seeds[0])
            _write(now)


def _tune(now: _Comparison) -> list[EndedRun]:
    """Search the grid, take the best options into the variants; return the runs that failed."""
    points, configs = candidates(now.variants), _tuning_runs(now)
    print_lines(now.console, [f"tuning first: {len(points)} runs with seed {configs[0].seed}"])
    ended = run_all(configs, now.jobs, now.console, now.request.devices, slurm=now.slurm)
    failed = [one for one in ended if one.error is not None]
    if not failed:
        now.choices = choose(points, [read_record(one.run_dir / SUMMARY, Summary) for one in ended])
        now.variants = [_chosen(variant, points, now.choices) for variant in now.variants]
    return failed


def _chosen(variant: Variant, points: Sequence[Candidate], choices: Sequence[Choice]) -> Variant:
    options = next((choice.options for choice in choices if choice.variant == variant.name), {})
    return next((p.tuned for p in points if p.variant.name == variant.name and p.options == options), variant)


def _train(now: _Comparison) -> list[EndedRun]:
    """Train all runs, seed by seed; return those that failed."""
    configs = _runs(now)
    for config in configs:
        # Again, since tuning may have chosen other options than an earlier call.
        refuse_other_run(config)

    def on_end() -> None:
        _write(now)

    try:
        ended = run_all(configs, now.jobs, now.console, now.request.devices, on_end, now.slurm)
    except BaseException:
        _write(now, page=True)
        raise
    words = _write(now, last=True, page=True)
    report = now.folder / REPORT
    where = f"report: {report}" if report.is_file() else "no report: none of the runs has finished an epoch"
    print_lines(now.console, ["", *words.lines, where])
    return [one for one in ended if one.error is not None]


def _write(now: _Comparison, last: bool = False, page: bool = False) -> Words:
    """Write the numbers, and the page if `page` or if it is old; `last`: nothing trains, so speed can be measured."""
    by_variant = {variant.name: _begun(now, variant) for variant in now.variants}
    outcome = judge(now.variants, by_variant, now.work)
    speed = _speed(now, outcome.deploy) if last else None
    words = in_words(outcome, now.work, now.choices, speed, now.seeds)
    write_numbers(now.folder, outcome, words, now.choices, speed, now.asked)
    begun = [run for runs in by_variant.values() for run in runs]
    if begun and (page or time.perf_counter() - now.written > PAUSE):
        write_report(now.folder, outcome, words, now.choices, begun)
        now.written = time.perf_counter()
    return words


def _begun(now: _Comparison, variant: Variant) -> list[Run]:
    """Return the runs of a variant that have finished an epoch."""
    found = []
    for seed in now.seeds:
        out = _at(now, variant, seed, RUNS).out
        if out is not None and is_run(out):
            try:
                found.append(read_run(out))
            except UserError as damage:
                warnings.warn(f"left out of the report: {damage}", stacklevel=2)
    return found


def _speed(now: _Comparison, run: Run | None) -> Speed | None:
    return None if run is None else measure_speed(run.directory, resolve_device(now.request.device))


def _runs(now: _Comparison) -> list[Config]:
    return [_at(now, variant, seed, RUNS) for seed in now.seeds for variant in now.variants]


def _tuning_runs(now: _Comparison) -> list[Config]:
    seed = now.seeds[0] + SEED_AFTER
    return [_at(now, point.tuned, seed, TUNING, point.name) for point in candidates(now.variants)]


def _at(now: _Comparison, variant: Variant, seed: int, folder: str, name: str | None = None) -> Config:
    return placed(variant, seed, now.folder / folder, now.threads, name)


def _print_runs(now: _Comparison) -> None:
    configs = [*(_tuning_runs(now) if now.request.tune else ()), *_runs(now)]
    done = [config.out is not None and is_complete(config.out) for config in configs]
    lines = [f"{'done  ' if one else 'to run'}  {config.out}" for config, one in zip(configs, done, strict=True)]
    print_lines(now.console, [*lines, f"{done.count(False)} of {len(configs)} runs to do; nothing was run"])
