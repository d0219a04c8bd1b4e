"""`codistill study`: plan, run, report."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console
from tyro.conf import Positional, Suppress, arg

from codistill.console import plain_duration
from codistill.errors import UserError
from codistill.studies.catalog import find_study, studies_named, studies_of_paper
from codistill.studies.plan import Plan, make_plan, select
from codistill.studies.profiles import find_profile
from codistill.studies.report import write_study_report
from codistill.studies.runner import run_cells
from codistill.studies.store import Store
from codistill.studies.study import Study
from codistill.training.check import resolve_device

__all__ = ["StudyRequest", "run_studies"]


@dataclass(frozen=True)
class StudyRequest:
    """Run the experiment behind a table or figure of the papers, and report it beside the paper's numbers."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="STUDY...")]
    """Studies such as okddip/table2; okddip, kdcl or all for several; list, or list okddip, to see them."""
    profile: Literal["smoke", "cpu", "paper"] = "cpu"
    """paper: the papers' own setting; cpu: small networks and data, the same methods and protocol; smoke: a try."""
    reading: Literal["slides", "released"] = "slides"
    """OKDDip's studies, every column alike: slides: the slides' equations; released: as its authors' code has it."""
    unclear_epochs: int | None = None
    """KDCL's studies: epochs of the networks whose length the slides leave open; the full length if left out."""
    seeds: int | None = None
    """Seeds 0 to n - 1; 3 if left out, 2 for smoke."""
    only: tuple[str, ...] = ()
    """Rows of the table, such as resnet32; all if left out."""
    methods: tuple[str, ...] = ()
    """Methods, or columns of the table; all if left out."""
    jobs: int | None = None
    """Runs at once, each in its own process; one a device if left out, or one a CPU core."""
    devices: tuple[str, ...] = ()
    """Devices handed out to the runs in turn, such as cuda:0 cuda:1; each run's own setting if left out."""
    out: Path = Path("runs/studies")
    """Folder; a profile's runs and reports go to a folder of its name, and studies share runs there."""
    dry_run: bool = False
    """Say what would run, and run nothing."""
    command: Suppress[str] = "codistill study"


def run_studies(request: StudyRequest, console: Console) -> bool:
    """Run what is asked for, keep what is there, and write a report a study.

    Returns:
        Whether every run is there in the end; a failed one is told with its log.

    Raises:
        UserError: an unknown study, profile, row or method; a number out of range; a configuration that is refused.
    """
    studies, seeds, jobs = _studies(request), _seeds(request), _jobs(request)
    folder = request.out / request.profile
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        raise UserError(f"out {file} is a file: give the path of a folder.")
    plan = make_plan(studies, seeds, folder)
    for line in _without_effect(request, studies):
        console.print(line, highlight=False, soft_wrap=True)
    if request.dry_run:
        _tell(plan, console)
        return True
    console.print(
        f"{', '.join(study.name for study in studies)}: {len(plan.cells)} runs, seeds 0 to {seeds - 1}, "
        f"{jobs} at a time (profile {request.profile}: {find_profile(request.profile).what}"
        f"{f'; reading {request.reading}' if any(study.reading for study in studies) else ''})",
        highlight=False,
        soft_wrap=True,
    )
    started = time.perf_counter()
    results = run_cells(plan.cells, jobs, console, request.devices)
    failed = [r for r in results if r.error is not None]
    for result in failed:
        console.print(f"[red]failed[/]: {result.run_dir / 'log.txt'}", highlight=False, soft_wrap=True)
    store = Store(folder, seeds)
    for study in studies:
        out = report_study(study, store, folder, request.command)
        told = f"report: {out}" if out else f"no report of {study.name}: none of its runs has an epoch"
        console.print(told, highlight=False, soft_wrap=True)
    console.print(f"{plain_duration(time.perf_counter() - started)} in all", highlight=False)
    return not failed


def report_study(study: Study, store: Store, folder: Path, command: str) -> Path | None:
    """Write the report of one study from the runs of the profile's folder; None where no run has begun."""
    runs = store.runs(study)
    if not any(runs.values()):
        return None
    places = store.places(studies_of_paper(study))
    return write_study_report(study, runs, places, folder / study.folder, command)


def _without_effect(request: StudyRequest, studies: list[Study]) -> list[str]:
    """A line for each choice that changes nothing in some of the studies."""
    lines = []
    for option, given, paper in (
        (f"reading {request.reading}", request.reading != "slides", "okddip"),
        (f"unclear-epochs {request.unclear_epochs}", request.unclear_epochs is not None, "kdcl"),
    ):
        others = [study.name for study in studies if study.paper != paper]
        if given and others:
            lines.append(f"--{option} is for studies of {paper} and changes nothing in {', '.join(others)}")
    return lines


def _studies(request: StudyRequest) -> list[Study]:
    if not request.names:
        raise UserError("no study: name one or several ('codistill study list'), or okddip, kdcl or all.")
    studies, refusals = [], []
    chosen = (request.profile, request.reading, request.unclear_epochs)
    for study in [find_study(name, *chosen) for name in studies_named(request.names)]:
        try:
            studies.append(select(study, request.only, request.methods))
        except UserError as refusal:
            refusals.append(refusal)
    # Of several studies, those without such a row or method are left out.
    if not studies:
        raise refusals[0]
    return studies


def _seeds(request: StudyRequest) -> int:
    seeds = find_profile(request.profile).seeds if request.seeds is None else request.seeds
    if seeds < 1:
        raise UserError(f"seeds {seeds}: a study needs at least 1, and 3 or more for a conclusion.")
    return seeds


def _jobs(request: StudyRequest) -> int:
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"jobs {request.jobs}: at least 1 run goes on at a time.")
    for device in request.devices:
        resolve_device(device)
    on_cpu = request.profile != "paper" and not request.devices
    there = (os.cpu_count() or 1) if on_cpu else len(request.devices) or max(1, torch.cuda.device_count())
    return request.jobs or there


def _tell(plan: Plan, console: Console) -> None:
    todo = 0
    for cell in plan.cells:
        out = cell.config.out
        assert out is not None
        done = (out / "summary.json").is_file()
        todo += not done
        console.print(f"{'done  ' if done else 'to run'}  {out}", highlight=False, soft_wrap=True)
    console.print(f"{todo} of {len(plan.cells)} runs to do; nothing was run", highlight=False)
