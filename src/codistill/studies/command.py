"""`codistill study`: list the runs, train them, report."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from codistill.console import plain_duration
from codistill.errors import UserError
from codistill.rundir import LOG, is_complete, make_folder
from codistill.studies.catalog import find_study, studies_named, studies_of_paper
from codistill.studies.folder import RUNS, refuse_other_folder
from codistill.studies.one_run import refuse_other_run
from codistill.studies.profiles import find_profile
from codistill.studies.report import write_study_report
from codistill.studies.request import StudyRequest
from codistill.studies.run_list import PlannedRun, RunList, make_run_list, select
from codistill.studies.runner import at_a_time, run_all
from codistill.studies.slurm import slurm_of
from codistill.studies.store import Store
from codistill.studies.study import Study
from codistill.terminal import Console, styled
from codistill.training.check import resolve_device
from codistill.training.out_folder import starting

__all__ = ["StudyRequest", "run_studies"]

ON_GPU = ("gpu", "paper")
"""Profiles whose runs take a GPU if there is one."""


def run_studies(request: StudyRequest, console: Console) -> bool:
    """Train the runs that are asked for and not yet finished, and write one report per study.

    Returns:
        Whether every run is finished in the end; the log of a failed one is printed.

    Raises:
        UserError: an unknown study, profile, row or method; a number out of range; a configuration that is refused.
    """
    studies, seeds, jobs = _studies(request), _seeds(request), _jobs(request)
    folder = request.out / request.profile
    refuse_other_folder(folder, studies)
    slurm = slurm_of(request.launcher, request.slurm, request.devices, folder)
    listed = make_run_list(studies, seeds, folder)
    for run in listed.runs:
        refuse_other_run(run.config)
    for line in _without_effect(request, studies):
        console.print(line, soft_wrap=True)
    if request.dry_run:
        _print_runs(listed, console)
        return True
    if request.profile == "gpu" and not request.devices and slurm is None and not torch.cuda.is_available():
        raise UserError(
            "profile 'gpu' on a machine without a CUDA device would take weeks: choose --profile cpu, or name a device "
            "with --devices."
        )
    console.print(
        f"{', '.join(study.name for study in studies)}: {len(listed.runs)} runs, seeds 0 to {seeds - 1}, "
        f"{at_a_time(jobs)} (profile {request.profile}: {find_profile(request.profile).what}"
        f"{f'; reading {request.reading}' if any(study.reading for study in studies) else ''})",
        soft_wrap=True,
    )
    started = time.perf_counter()
    with starting(folder):
        make_folder(folder / RUNS)
    runs = _on_gpu(listed.runs) if request.profile == "gpu" and slurm is not None else listed.runs
    results = run_all(runs, jobs, console, request.devices, slurm=slurm)
    failed = [r for r in results if r.error is not None]
    for result in failed:
        line = styled(("failed", "red"), f": {result.run_dir / LOG}")
        console.print(result.reason if result.elsewhere else line, soft_wrap=True)
    store = Store(folder, seeds)
    for study in studies:
        out = report_study(study, store, folder, request.command)
        line = f"report: {out}" if out else f"no report of {study.name}: none of its runs has finished an epoch"
        console.print(line, soft_wrap=True)
    console.print(f"{plain_duration(time.perf_counter() - started)} in total")
    return not failed


def report_study(study: Study, store: Store, folder: Path, command: str) -> Path | None:
    """Write the report of one study from the runs in the profile's folder; None where no run has begun."""
    runs = store.runs(study)
    if not any(runs.values()):
        return None
    places = store.places(studies_of_paper(study))
    return write_study_report(study, runs, places, folder / study.folder, command)


def _without_effect(request: StudyRequest, studies: list[Study]) -> list[str]:
    """Return a line for each choice that changes nothing in some of the studies."""
    lines = []
    for option, given, paper in (
        (f"reading {request.reading}", request.reading != "slides", "okddip"),
        (f"unclear-epochs {request.unclear_epochs}", request.unclear_epochs is not None, "kdcl"),
    ):
        others = [study.name for study in studies if study.paper != paper]
        if given and others:
            lines.append(f"--{option} is only for studies of {paper} and changes nothing in {', '.join(others)}")
    return lines


def _studies(request: StudyRequest) -> list[Study]:
    if not request.names:
        raise UserError("no study: name one or several of those in 'codistill study list', or okddip, kdcl or all.")
    studies, refusals = [], []
    chosen = (request.profile, request.reading, request.unclear_epochs)
    for study in [find_study(name, *chosen) for name in studies_named(request.names)]:
        try:
            studies.append(select(study, request.only, request.methods))
        except UserError as refusal:
            refusals.append(refusal)
    # Studies without such a row or method are left out, unless none has it.
    if not studies:
        raise refusals[0]
    return studies


def _seeds(request: StudyRequest) -> int:
    seeds = find_profile(request.profile).seeds if request.seeds is None else request.seeds
    if seeds < 1:
        raise UserError(f"seeds {seeds}: a study needs at least 1, and at least 3 for a conclusion.")
    return seeds


def _on_gpu(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Let runs fail at once on a node without a GPU, where they would take weeks; here there may be none."""
    return [dataclasses.replace(run, config=dataclasses.replace(run.config, device="cuda:0")) for run in runs]


def _jobs(request: StudyRequest) -> int | None:
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"jobs {request.jobs}: it must be at least 1; leave it out for one run per device or CPU core.")
    if request.launcher == "slurm":
        return request.jobs
    for device in request.devices:
        resolve_device(device)
    on_cpu = request.profile not in ON_GPU and not request.devices
    usual = (os.cpu_count() or 1) if on_cpu else len(request.devices) or max(1, torch.cuda.device_count())
    return request.jobs or usual


def _print_runs(listed: RunList, console: Console) -> None:
    todo = 0
    for run in listed.runs:
        out = run.config.out
        assert out is not None
        done = is_complete(out)
        todo += not done
        console.print(f"{'done  ' if done else 'to run'}  {out}", soft_wrap=True)
    console.print(f"{todo} of {len(listed.runs)} runs to do; nothing was run")
